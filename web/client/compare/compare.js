// Runs each client through each trial, each pair in a process of its own: `node compare.js`. For one alone: `node compare.js CLIENT TRIAL`.
import { execFile } from "node:child_process";
import { availableParallelism } from "node:os";

import { clients, endBrowser } from "./clients.js";
import { sizes } from "./sizes.js";
import { trials } from "./trials.js";

const [name, trial] = process.argv.slice(2);
process.on("unhandledRejection", () => {});
process.on("uncaughtException", (error) => {
  console.log(JSON.stringify(`throws: ${error.message}`));
  process.exit(0);
});

if (trial !== undefined) {
  const verdict = await trials[trial](clients[name]);
  console.log(JSON.stringify(verdict));
  await endBrowser();
  process.exit(0);
}

/** @param {string} client @param {string} of */
function tried(client, of) {
  const command = [import.meta.filename, client, of];
  return new Promise((resolve) => {
    execFile(process.execPath, command, { timeout: 45_000, killSignal: "SIGKILL" }, (error, said) => {
      const last = said.trim().split("\n").at(-1);
      resolve(last ? JSON.parse(last) : error?.killed ? "hangs" : `failed: ${error}`);
    });
  });
}

const names = Object.keys(clients).filter((it) => !name || it === name);
const cells = Object.fromEntries(Object.keys(trials).map((of) => [of, {}]));
const todo = Object.keys(trials).flatMap((of) => names.map((client) => [client, of]));
await Promise.all(
  Array.from({ length: availableParallelism() }, async () => {
    for (let next = todo.shift(); next; next = todo.shift()) {
      const [client, of] = next;
      cells[of][client] = await tried(client, of);
      console.error(`${of}, ${client}: ${cells[of][client]}`);
    }
  }),
);
console.log(`| | ${names.join(" | ")} |\n|---|${"---|".repeat(names.length)}`);
for (const [of, row] of Object.entries(cells)) console.log(`| ${of} | ${names.map((client) => row[client]).join(" | ")} |`);
console.log(`\n${await sizes()}`);

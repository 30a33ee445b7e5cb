// What the packages hold: every file that their `exports` name, types too.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

for (const name of ["client", "react"]) {
  test(`the package of ${name} holds what it exports`, () => {
    const folder = new URL(`../../${name}/`, import.meta.url);
    const types = new URL("types/", folder);
    const hadTypes = existsSync(types);
    try {
      const said = execFileSync("npm", ["pack", "--dry-run", "--json", "--silent"], { cwd: fileURLToPath(folder), encoding: "utf8" });
      // In front of it stands what `prepack` says; newer versions of npm put the name before each package.
      const told = JSON.parse(said.slice(said.search(/^[[{]/m)));
      const [{ files }] = Array.isArray(told) ? told : Object.values(told);
      const held = files.map((/** @type {{path: string}} */ { path }) => `./${path}`);
      const { exports } = JSON.parse(readFileSync(new URL("package.json", folder), "utf8"));
      const named = Object.values(exports).flatMap((entry) => Object.values(entry));
      for (const path of [...named, "./LICENSE-APACHE", "./LICENSE-MIT"]) assert(held.includes(path), path);
      assert.deepEqual(held.filter((/** @type {string} */ path) => /test|compare|bench/.test(path)), []);
    } finally {
      // Left here, they would stand before the sources in other checks.
      if (!hadTypes) rmSync(types, { recursive: true, force: true });
    }
  });
}

/** What somebody writes in TypeScript who has the packages from a registry. */
const CONSUMER = `
import { useJob, useSSE, type Events } from "sse-server-react";
import { ConnectionError, SSEConnection } from "sse-server-client";
import { Decoder } from "sse-server-client/decoder";
import { SharedConnection } from "sse-server-client/shared";

type Mine = { progress: { percent: number }; done: { pages: number } };
const options: ConstructorParameters<typeof SSEConnection>[1] = { topics: ["job/42"], token: async () => "abc", maxRetries: 3 };
const connection = new SSEConnection<Mine>("/events", options);
connection.on("progress", ({ percent }) => percent.toFixed(1));
// @ts-expect-error: there is no such event
connection.on("progres", () => {});
// @ts-expect-error: a number
new SSEConnection("/events", { maxRetries: "3" });
connection.onerror = () => connection.error instanceof ConnectionError && connection.error.status;
async function read() {
  await connection.connect();
  for await (const event of connection) if (event.type === "done") break;
  connection.close();
}
const shared = new SharedConnection("/events", { identity: "ann" });
const decoder = new Decoder({ onEvent: ({ data }) => data.length });
decoder.feed(new Uint8Array(1));
export function View() {
  const { data } = useSSE<Events<Mine>>("/events", { event: "progress" });
  return [data, useJob("42").isDone, shared.isLeading, read];
}
`;

test("the packages have types for those that install them", () => {
  const folder = mkdtempSync(join(tmpdir(), "sse-types-"));
  const web = fileURLToPath(new URL("../../", import.meta.url));
  try {
    mkdirSync(join(folder, "node_modules/@types"), { recursive: true });
    for (const name of ["client", "react"]) {
      const types = join(web, name, "types");
      const hadTypes = existsSync(types);
      execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: join(web, name), encoding: "utf8" });
      if (!hadTypes) rmSync(types, { recursive: true, force: true });
      const target = join(folder, "node_modules", `sse-server-${name}`);
      mkdirSync(target);
      execFileSync("tar", ["-xzf", join(folder, `sse-server-${name}-0.1.0.tgz`), "-C", target, "--strip-components=1"]);
    }
    for (const name of ["react", "@types/react", "csstype"]) {
      if (existsSync(join(web, "node_modules", name))) symlinkSync(join(web, "node_modules", name), join(folder, "node_modules", name));
    }
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
    writeFileSync(join(folder, "app.ts"), CONSUMER);
    const flags = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2023", "--lib", "es2023,dom,dom.iterable,dom.asynciterable", "app.ts"];
    execFileSync(join(web, "node_modules/.bin/tsc"), flags, { cwd: folder, encoding: "utf8" });
    const run = 'import { SSEConnection } from "sse-server-client"; import { SharedConnection } from "sse-server-client/shared"; console.log(typeof SSEConnection, typeof SharedConnection)';
    assert.equal(execFileSync("node", ["--input-type=module", "-e", run], { cwd: folder, encoding: "utf8" }), "function function\n");
  } catch (error) {
    const { stdout = "", message } = /** @type {any} */ (error);
    assert.fail(`${message}: ${stdout}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

// The JavaScript parsers on the streams of the Rust comparison, checked, in turns: `npm run bench`.
//
// The Rust program beside this folder writes the streams, cut the same way, with what must come out and how fast our
// decoder was on them just before.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { parsers } from "./parsers.js";

/** How long each shape is measured, and each parser at least once. */
const SHAPE_TIME_MS = 4000;

const here = fileURLToPath(new URL(".", import.meta.url));
const shapesDir = `${here}shapes`;
execFileSync("cargo", ["run", "--release", "--quiet", "--", "--shapes", shapesDir], {
  cwd: fileURLToPath(new URL("..", import.meta.url)),
  stdio: "inherit",
});

/** Reads a whole stream; counts events and the length of their data. */
function read(create, chunks) {
  let events = 0;
  let chars = 0;
  const parser = create((_type, data) => {
    events += 1;
    chars += data.length;
  });
  for (const chunk of chunks) parser.feed(chunk);
  return { events, chars };
}

const manifest = JSON.parse(readFileSync(`${shapesDir}/shapes.json`, "utf8"));
const names = Object.keys(parsers);
console.log(`Node ${process.version}; MB/s, fastest of interleaved rounds; ours is Rust, run just before.\n`);
console.log(`| shape | ours, lent | ours, owned | ${names.join(" | ")} | ours, owned, to the fastest |`);
console.log(`|---|---|---|${names.map(() => "---|").join("")}---|`);
for (const shape of manifest) {
  const stream = readFileSync(`${shapesDir}/${shape.name}.sse`);
  const chunks = [];
  for (let at = 0; at < stream.length; at += shape.chunk_bytes) {
    chunks.push(new Uint8Array(stream.subarray(at, at + shape.chunk_bytes)));
  }
  const best = names.map(() => Infinity);
  const begin = performance.now();
  let rounds = 0;
  while (rounds === 0 || performance.now() - begin < SHAPE_TIME_MS) {
    names.forEach((name, i) => {
      const start = performance.now();
      const seen = read(parsers[name], chunks);
      best[i] = Math.min(best[i], performance.now() - start);
      if (seen.events !== shape.events || seen.chars !== shape.data_utf16) {
        throw new Error(`${name} on ${shape.name}: ${JSON.stringify(seen)}`);
      }
    });
    rounds += 1;
  }
  const speed = (ms) => stream.length / ms / 1e3;
  const speeds = best.map(speed);
  const shown = (mbs) => (mbs < 10 ? mbs.toPrecision(2) : mbs.toFixed(0));
  const factor = shape.ours_owned_mb_s / Math.max(...speeds);
  console.log(
    `| ${shape.name} | ${shown(shape.ours_lent_mb_s)} | ${shown(shape.ours_owned_mb_s)} | ` +
      `${speeds.map(shown).join(" | ")} | ${factor.toFixed(1)} |`,
  );
}

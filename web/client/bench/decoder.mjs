// How long decoding takes, beside eventsource-parser in the same run: `node client/bench/decoder.mjs` in web/. Both get bytes, in
// the same pieces; eventsource-parser takes text, so its TextDecoder is counted. The fastest of many runs each, in turn: what else a machine
// does only makes runs slower.
import { createParser } from "eventsource-parser";

import { Decoder } from "../src/decoder.js";

/** @type {(count: number, make: (n: number) => string) => string[]} */
const repeat = (count, make) => Array.from({ length: count }, (_, n) => make(n));
const json = (/** @type {unknown} */ value) => JSON.stringify(value);
const token = (/** @type {number} */ n) => " " + ["token", "of", "some", "length", "and", "others", "besides"][n % 7];

/**
 * A text in pieces of different lengths, of about so many characters.
 *
 * @param {string} text
 * @param {number} average
 */
function dripped(text, average) {
  const pieces = [];
  for (let at = 0, n = 1; at < text.length; n = (n * 48_271) % 2_147_483_647) {
    const length = 1 + (n % (2 * average - 1));
    pieces.push(text.slice(at, at + length));
    at += length;
  }
  return pieces;
}

const WORDS = ["grüße aus köln", "съешь ещё этих булок", "いろはにほへと", "敏捷的棕色狐狸", "الثعلب البني", "👩‍👩‍👧 🏳️‍🌈 🇪🇺 👍🏽"];
const ids = repeat(128, (n) => `id: ${1000 + n}\nevent: tick\ndata: ${json({ index: n, text: token(n) })}\n\n`);

/** The shapes of eventsource-parser's own benchmark: what comes, piece by piece. @type {Record<string, string[]>} */
const itsShapes = {
  "data-only": repeat(256, (n) => `data: ${json({ id: "id-8f", object: "chat.completion.chunk", created: 17e8, model: "m", choices: [{ index: 0, delta: { content: token(n) }, finish_reason: null }] })}\n\n`),
  "named-event": repeat(128, (n) => `event: block-delta\ndata: ${json({ type: "block-delta", index: 0, delta: { type: "text-delta", text: token(n) } })}\n\n`),
  "identified-event": ids,
  multibyte: repeat(128, (n) => `data: ${WORDS[n % 6]} ${WORDS[(n + 1) % 6]} ${WORDS[5]}\n\n`),
  heartbeat: repeat(64, (n) => [": keep-alive\n", ": keep-alive\n", ": keep-alive\n", ": keep-alive\n", `data: ${json({ n })}\n\n`].join("\0")).flatMap((five) => five.split("\0")),
  "idle-stream": [...repeat(512, () => ":"), "\ndata: at last\n\n"],
  "invalid-line-drip": [...repeat(512, () => "nofield"), "\ndata: at last\n\n"],
  "huge-line-drip": dripped(`data: ${"payload ".repeat(32 << 10)}\n\n`, 4),
  "small-chunk": dripped(ids.join(""), 8),
  "large-multiline-data": [`${`data: ${"x".repeat(80)}\n`.repeat(500)}\n`],
  "edge-cases": repeat(32, (n) => `: a comment\r\ndata: ${n}\r\n\r\n\0data: one\ndata: two\ndata:\n\n\0unknown: field\nevent: e\ndata:no space\n\n\0data: split\r\0\n\r\n\0id: ${n}\n\n`).flatMap((some) => some.split("\0")),
};

/** Others: what they are made of, cut into pieces of so many bytes. */
const ourShapes = [
  ["tokens of a model", repeat(5000, (n) => itsShapes["data-only"]?.[n % 256] ?? "").join("")],
  ["ids and types", repeat(10_000, (n) => `id: 253abb-${n}\nevent: progress\ndata: {"progress":${n}}\n\n`).join("")],
  ["CRLF", repeat(10_000, (n) => `id: ${n}\r\ndata: {"progress":${n}}\r\n\r\n`).join("")],
  ["100 KB each", repeat(50, () => `data: ${"x".repeat(100_000)}\n\n`).join("")],
].flatMap(([name, text]) => [1400, 65_536].map((size) => /** @type {const} */ ([`${name}, ${size} bytes at once`, cut(Buffer.from(text ?? ""), size)])));

/** @param {Buffer} all @param {number} size */
function cut(all, size) {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, n) => all.subarray(n * size, (n + 1) * size));
}

/** @type {(readonly [string, Buffer[]])[]} */
const shapes = [...Object.entries(itsShapes).map(([name, pieces]) => /** @type {const} */ ([name, pieces.map((text) => Buffer.from(text))])), ...ourShapes];
console.log("| stream | ours, µs | eventsource-parser, µs | ratio |");
console.log("|---|---|---|---|");
for (const [name, pieces] of shapes) {
  let events = 0;
  const ours = () => {
    const decoder = new Decoder({ onEvent: () => (events += 1) });
    for (const piece of pieces) decoder.feed(piece);
  };
  const theirs = () => {
    const text = new TextDecoder();
    const parser = createParser({ onEvent: () => (events += 1) });
    for (const piece of pieces) parser.feed(text.decode(piece, { stream: true }));
  };
  const counted = [ours, theirs].map((run) => {
    events = 0;
    run();
    return events;
  });
  if (counted[0] !== counted[1]) throw new Error(`${name}: ${counted}`);
  /** @type {[number[], number[]]} */
  const times = [[], []];
  // Until both are compiled.
  for (const run of [ours, theirs]) for (const end = performance.now() + 300; performance.now() < end; ) run();
  // Short runs, many of them: some have the processor for themselves on a busy machine too.
  for (const end = performance.now() + 1000; performance.now() < end; ) {
    for (const [n, run] of [ours, theirs].entries()) {
      const began = performance.now();
      run();
      times[n]?.push((performance.now() - began) * 1000);
    }
  }
  const [mine, other] = times.map((all) => all.reduce((least, time) => Math.min(least, time)));
  console.log(`| ${name} | ${mine?.toFixed(0)} | ${other?.toFixed(0)} | ${((mine ?? 0) / (other || 1)).toFixed(2)} |`);
}

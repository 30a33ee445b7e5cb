// How long decoding takes, beside eventsource-parser in the same run: `node client/bench/decoder.mjs` in web/. The medians of nine
// runs each, in turn. Both get bytes; eventsource-parser takes text, so its TextDecoder is counted.
import { createParser } from "eventsource-parser";

import { Decoder } from "../src/decoder.js";

/** What a stream is made of, and how many of it. @type {Record<string, [(n: number) => string, number]>} */
const shapes = {
  "tokens of a model": [(n) => `data: {"id":"chatcmpl-9x","object":"chat.completion.chunk","created":1700000000,"model":"m-1","choices":[{"index":0,"delta":{"content":" tok${n}"},"finish_reason":null}]}\n\n`, 20_000],
  "ids and types": [(n) => `id: 253abb-${n}\nevent: progress\ndata: {"progress":${n}}\n\n`, 40_000],
  "small events": [(n) => `data: ${n}\n\n`, 60_000],
  "many data lines": [(n) => `event: m\n${`data: line of some text ${n}\n`.repeat(8)}\n`, 8000],
  heartbeats: [() => ":\n\n", 60_000],
  CRLF: [(n) => `id: ${n}\r\ndata: {"progress":${n}}\r\n\r\n`, 40_000],
  "100 KB each": [() => `data: ${"x".repeat(100_000)}\n\n`, 200],
};

/** @param {number[]} times */
const median = (times) => times.sort((a, b) => a - b)[times.length >> 1] ?? 0;

console.log("| stream | bytes at once | ours, ms | eventsource-parser, ms | ratio |");
console.log("|---|---|---|---|---|");
for (const [name, [make, count]] of Object.entries(shapes)) {
  const all = Buffer.from(Array.from({ length: count }, (_, n) => make(n)).join(""));
  for (const size of [64, 1400, 16_384, 65_536]) {
    const chunks = Array.from({ length: Math.ceil(all.length / size) }, (_, n) => all.subarray(n * size, (n + 1) * size));
    let events = 0;
    const ours = () => {
      const decoder = new Decoder({ onEvent: () => (events += 1) });
      for (const chunk of chunks) decoder.feed(chunk);
    };
    const theirs = () => {
      const text = new TextDecoder();
      const parser = createParser({ onEvent: () => (events += 1) });
      for (const chunk of chunks) parser.feed(text.decode(chunk, { stream: true }));
    };
    const counted = [ours, theirs].map((run) => {
      events = 0;
      run();
      return events;
    });
    if (counted[0] !== counted[1]) throw new Error(`${name}: ${counted}`);
    /** @type {[number[], number[]]} */
    const times = [[], []];
    for (let round = 0; round < 9; round += 1) {
      for (const [n, run] of [ours, theirs].entries()) {
        const begun = performance.now();
        run();
        times[n]?.push(performance.now() - begun);
      }
    }
    const [mine, other] = times.map(median);
    console.log(`| ${name} | ${size} | ${mine?.toFixed(1)} | ${other?.toFixed(1)} | ${((mine ?? 0) / (other || 1)).toFixed(2)} |`);
  }
}

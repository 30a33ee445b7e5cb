// How long the connection waits, what it counts as failures, and what it sends, with the options that nobody sets.
import assert from "node:assert/strict";
import { test } from "node:test";

import { SSEConnection } from "../src/index.js";
import { Server, eventually, status, stream } from "../../testing/server.js";

const settled = async () => {
  for (let n = 0; n < 5; n += 1) await new Promise((resolve) => setImmediate(resolve));
};

/**
 * Lets the mocked clock go on, a second at most at once: it would seem to have slept otherwise.
 *
 * @param {import("node:test").TestContext} t
 * @param {number} milliseconds
 */
async function pass(t, milliseconds) {
  for (let left = milliseconds; left > 0; left -= 1000) {
    t.mock.timers.tick(Math.min(left, 1000));
    await settled();
  }
}

/** Answers with a stream on which nothing comes. @type {typeof globalThis.fetch} */
const silent = async (_, { signal } = {}) => {
  const body = new ReadableStream({ start: (controller) => signal?.addEventListener("abort", () => controller.error(signal.reason)) });
  return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
};

/** @param {import("node:test").TestContext} t */
const mocked = (t) => t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1e12 });

for (const part of [0, 0.5, 0.999]) {
  test(`the waits are any part of 1, 2, 4, 8, 16 and then 30 seconds, here ${part}`, async (t) => {
    mocked(t);
    const fetch = async () => {
      throw new TypeError("nobody answers");
    };
    const connection = new SSEConnection("http://hub.example/events", { fetch, random: () => part });
    for (const [n, longest] of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].entries()) {
      await settled();
      assert.deepEqual([connection.state, connection.attempt], ["waiting", n + 1]);
      const wait = (connection.retryAt ?? NaN) - Date.now();
      assert(Math.abs(wait - longest * part) < 2, `${wait} of ${longest}`);
      await pass(t, Math.ceil(wait) + 1);
    }
    connection.close();
  });
}

test("without a byte for 45 seconds a connection counts as dead, and not before", async (t) => {
  mocked(t);
  const connection = new SSEConnection("http://hub.example/events", { fetch: silent, random: () => 0.999 });
  await settled();
  await pass(t, 44_500);
  assert.deepEqual([connection.state, connection.error], ["open", null]);
  await pass(t, 1000);
  assert.deepEqual([connection.state, connection.error?.code], ["waiting", "silent"]);
  connection.close();
});

test("after a look that is late it connects anew at once, and a POST is left alone", async (t) => {
  mocked(t);
  let asked = 0;
  /** @type {typeof globalThis.fetch} */
  const fetch = (target, request) => {
    asked += 1;
    return silent(target, request);
  };
  const connection = new SSEConnection("http://hub.example/events", { fetch, random: () => 0.999 });
  const post = new SSEConnection("http://hub.example/events", { fetch, method: "POST" });
  await settled();
  assert.equal(asked, 2);
  t.mock.timers.tick(20_000);
  await pass(t, 1000);
  assert.deepEqual([connection.state, post.state, asked], ["open", "open", 3]);
  connection.close();
  post.close();
});

const quick = { baseDelay: 1, maxDelay: 5, maxRetries: 3 };
const one = "id: 1\ndata: a\n\n";

for (const [name, step, about] of /** @type {[string, import("../../testing/server.js").Step, object][]} */ ([
  ["a busy hub", status(503), { status: 503 }],
  ["accept and drop", (asked) => asked.socket.destroy(), { status: 0 }],
  ["a hub that says on the stream that it is full", stream('event: unavailable\ndata: {"status":503,"code":"full"}\n\n', { ends: true }), { code: "full" }],
  ["a stream that ends after one event each time", stream(one, { ends: true }), { status: 0 }],
  ["a stream that is cut after one event each time", stream(one, { cuts: true }), { status: 0 }],
])) {
  test(`maxRetries ends it: ${name}`, async () => {
    for (const pollAfter of [0, 3]) {
      const server = new Server(step);
      const connection = new SSEConnection(await server.start(), { ...quick, pollAfter });
      await eventually("given up", () => connection.state === "closed");
      assert.equal(server.requests.length, 4);
      if (!pollAfter) for (const [key, value] of Object.entries(about)) assert.equal(/** @type {any} */ (connection.error)[key], value);
      server.stop();
    }
  });
}

test("maxRetries ends it where nobody answers", async () => {
  const server = new Server();
  const url = await server.start();
  server.stop();
  const connection = new SSEConnection(url, quick);
  await eventually("given up", () => connection.state === "closed");
  assert.deepEqual([connection.attempt, connection.error?.isFinal], [4, true]);
});

test("sixteen events begin the count of failures anew", async () => {
  const events = (/** @type {number} */ count) => Array.from({ length: count }, (_, n) => `data: ${n}\n\n`).join("");
  const [few, many] = [stream(events(15), { ends: true }), stream(events(16), { ends: true })];
  const server = new Server(few, few, few, many, few, few, few);
  const connection = new SSEConnection(await server.start(), { ...quick, pollAfter: 0 });
  await eventually("given up", () => connection.state === "closed");
  // Of the fourth stream the end is the first failure of the new count.
  assert.equal(server.requests.length, 7);
  server.stop();
});

test("headers are sent as a text and from a function, and cookies where they are asked for", async () => {
  const server = new Server(stream(one, { ends: true }), stream(one, { ends: true }), stream(one));
  const url = await server.start();
  let n = 0;
  const given = [{ "X-Team": "a" }, () => ({ "X-Team": `f${(n += 1)}` }), async () => ({ "X-Team": "later" })];
  for (const [i, headers] of given.entries()) {
    const credentials = /** @type {unknown[]} */ ([]);
    const connection = new SSEConnection(url, {
      ...quick,
      headers,
      withCredentials: i > 0,
      pollAfter: 0,
      fetch: (target, request) => {
        credentials.push(request?.credentials);
        return fetch(target, request);
      },
    });
    await connection.connect();
    const seen = server.requests.at(-1)?.headers;
    assert.deepEqual([seen?.["x-team"], seen?.accept], [["a", "f1", "later"][i], "text/event-stream"]);
    assert.equal(credentials[0], i > 0 ? "include" : "same-origin");
    connection.close();
  }
  server.stop();
});

// The module that the examples in Node publish with, against the real hub and against one that misbehaves.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Hub } from "../../web/testing/hub.js";
import { Server, json, status } from "../../web/testing/server.js";

/**
 * The module, as a program gets it that is told where the hub is.
 *
 * @param {string} url
 * @returns {Promise<typeof import("../node/sse-hub.mjs")>}
 */
function against(url) {
  process.env.SSE_HUB_URL = url;
  process.env.SSE_HUB_TOKEN = "sse_test";
  return import(`../node/sse-hub.mjs?${url}`);
}

test("a job is created with its first progress, told to its end, and can be cancelled", async () => {
  const hub = await Hub.start();
  try {
    const { HubError, cancelJob, jobEnd, sendCompletionUpdate, sendProgressUpdate } = await against(hub.url);
    await sendProgressUpdate("a b", 30, "Processing");
    await sendCompletionUpdate("a b", { pages: 3 });
    assert.deepEqual((await hub.request("/jobs/a%20b")).result, { pages: 3 });

    await sendProgressUpdate("stopped", 1);
    const end = jobEnd("stopped", AbortSignal.timeout(10_000));
    await cancelJob("stopped");
    assert.equal(await end, "cancelled");
    await assert.rejects(sendProgressUpdate("stopped", 2), (error) => error instanceof HubError && error.status === 409 && /cancelled/.test(error.message));
  } finally {
    await hub.stop();
  }
});

test("what may pass is sent again as it was, and what the hub refuses is not", async () => {
  const cut = (/** @type {any} */ _, /** @type {any} */ answer) => answer.destroy();
  const server = new Server(cut, status(503, '{"detail":"full"}'), json({ id: "x" }), status(400, '{"detail":"no such field"}'));
  const { origin } = new URL(await server.start());
  try {
    const { publish } = await against(origin);
    assert.deepEqual(await publish("note", { text: "é" }, "notes"), { id: "x" });
    assert.equal(server.requests.length, 3);
    assert.equal(new Set(server.requests.map(({ body }) => body)).size, 1);
    assert.equal(server.requests[2]?.headers.authorization, "Bearer sse_test");
    await assert.rejects(publish("note", 1, "notes"), /no such field/);
    assert.equal(server.requests.length, 4);
  } finally {
    server.stop();
  }
});

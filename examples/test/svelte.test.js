// @ts-nocheck: an example has no types, and its packages are in web/.
// The store with Svelte's own, against the real hub.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Hub } from "../../web/testing/hub.js";
import { resolvingFrom } from "../../web/testing/resolve.js";
import { eventually } from "../../web/testing/server.js";

await import(resolvingFrom(new URL("../../web", import.meta.url).pathname, /^(svelte|sse-server-client)(\/|$)/));
const { derived, get } = await import("svelte/store");
const { sse } = await import(new URL("../svelte/sse.js", import.meta.url));

test("it connects while somebody subscribes, once for all of them, and not on a server", async () => {
  const hub = await Hub.start();
  const stops = [];
  try {
    const visitors = sse(`${hub.url}/events?topic=visitors`, { event: "count", maxDelay: 200 });
    assert.deepEqual(get(visitors), { data: null, state: "connecting", error: null });
    assert.equal((await hub.request("/events/stats")).accepted_connections, 0);

    globalThis.window = globalThis;
    let [now, double] = [null, null];
    stops.push(visitors.subscribe((it) => (now = it)));
    stops.push(derived(visitors, ({ data }) => data && 2 * data.now).subscribe((it) => (double = it)));
    await eventually("open", () => now.state === "open");
    await hub.publish({ topic: "visitors", event: "count", data: { now: 4 } });
    await eventually("an event", () => now.data?.now === 4 && double === 8);
    assert.equal(await hub.streams(), 1);

    await hub.kill();
    await eventually("an error", () => now.error);
    await hub.start();
    await hub.publish({ topic: "visitors", event: "count", data: { now: 5 } });
    await eventually("what was missed", () => now.data.now === 5 && now.error === null);

    stops.forEach((stop) => stop());
    for (let i = 0; (await hub.streams()) > 0; i += 1) assert(i < 1000, "it stays open");
  } finally {
    stops.forEach((stop) => stop());
    await hub.stop();
  }
});

// @ts-nocheck: an example has no types, and its packages are in web/.
// The composable in Vue itself, against the real hub.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Hub } from "../../web/testing/hub.js";
import { resolvingFrom } from "../../web/testing/resolve.js";
import { eventually } from "../../web/testing/server.js";

await import(resolvingFrom(new URL("../../web", import.meta.url).pathname, /^(vue|sse-server-client)(\/|$)/));
const { createSSRApp, effectScope, h, ref } = await import("vue");
const { renderToString } = await import("vue/server-renderer");
const { useSSE } = await import(new URL("../vue/useSSE.js", import.meta.url));

test("it goes along with its URL and ends with its scope, and a server connects nothing", async () => {
  const hub = await Hub.start();
  const scope = effectScope();
  try {
    const publish = (topic, data) => hub.publish({ topic, event: "count", data });
    const url = ref(`${hub.url}/events?topic=a`);
    const { data, state, error } = scope.run(() => useSSE(url, { event: "count", maxDelay: 200 }));
    assert.deepEqual([data.value, state.value, error.value], [null, "connecting", null]);
    await eventually("open", () => state.value === "open");
    await publish("a", { now: 1 });
    await eventually("an event", () => data.value?.now === 1);

    url.value = `${hub.url}/events?topic=b`;
    await eventually("another stream", () => data.value === null && state.value === "open");
    await publish("a", { now: 2 });
    await publish("b", { now: 3 });
    await eventually("its event", () => data.value);
    assert.equal(data.value.now, 3);

    await hub.kill();
    await eventually("an error", () => error.value);
    await hub.start();
    await publish("b", { now: 4 });
    await eventually("what was missed", () => data.value.now === 4 && error.value === null);

    url.value = null;
    await eventually("none", () => state.value === "closed" && data.value === null);
    url.value = `${hub.url}/events`;
    await eventually("open again", () => state.value === "open");
    scope.stop();
    for (let i = 0; (await hub.streams()) > 0; i += 1) assert(i < 1000, "it stays open");

    const { accepted_connections: before } = await hub.request("/events/stats");
    const app = createSSRApp({
      setup() {
        const { state } = useSSE(`${hub.url}/events`);
        return () => h("p", state.value);
      },
    });
    assert.equal(await renderToString(app), "<p>connecting</p>");
    assert.equal((await hub.request("/events/stats")).accepted_connections, before);
  } finally {
    scope.stop();
    await hub.stop();
  }
});

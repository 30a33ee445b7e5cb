// @ts-nocheck: what runs in the page has no types here. test/types.ts has those that the hooks promise.
// Streams in components.
import assert from "node:assert/strict";

import { inReacts } from "../../testing/react-suite.js";

inReacts((it) => {
  it("strict mode connects once, and unmounting closes", async ({ page, url, publish, opened, streams }) => {
    await page.run(({ React, h, render, useSSE }, url) => {
      const View = () => {
        const { data, isConnected, state } = useSSE(url);
        return h("p", null, `${state} ${isConnected} ${JSON.stringify(data)}`);
      };
      window.root = render(h(React.StrictMode, null, h(View)));
    }, url);
    await page.shows("open true null");
    await publish({ n: 1 });
    await page.shows('open true {"n":1}');
    assert.equal(await opened(), 1);
    await page.run(() => window.root.unmount());
    await streams(0);
    assert.equal(await opened(), 1);
  });

  it("a component that comes back at once finds what it left", async ({ page, url, publish, opened, streams }) => {
    await page.run(({ h, render, useSSE }, url) => {
      const View = () => h("p", null, `saw ${useSSE(url).data}`);
      window.show = (key) => window.root.render(key && h(View, { key }));
      window.root = render(h(View, { key: "a" }));
    }, url);
    await streams(1);
    await publish("first");
    await page.shows("saw first");
    await page.run(async () => {
      window.show(null);
      await new Promise((resolve) => setTimeout(resolve, 100));
      window.show("b");
    });
    await page.shows("saw first");
    assert.equal(await opened(), 1);
  });

  it("components share a connection, whatever types they follow", async ({ page, url, publish, opened, streams }) => {
    await page.run(({ h, render, useSSE }, url) => {
      const View = ({ type }) => h("p", null, `${type}=${useSSE(url, { event: type, baseDelay: 50 }).data}`);
      const All = () => h("p", null, `all=${useSSE(url, { history: 3, baseDelay: 50 }).events.map((it) => it.type + it.data)}`);
      render(h("div", null, h(View, { type: "a" }), h(View, { type: "a" }), h(View, { type: "b" }), h(All)));
      render(h(View, { type: "b" }));
    }, url);
    await streams(1);
    for (const [data, type] of /** @type {[number, string][]} */ ([[1, "a"], [2, "b"], [3, "c"], [4, "a"]])) {
      await publish(data, type);
    }
    await page.shows("all=b2,c3,a4");
    await page.shows("a=4");
    assert.equal((await page.text()).replace(/\s+/g, " ").trim(), "a=4 a=4 b=2 all=b2,c3,a4 b=2");
    assert.equal(await opened(), 1);
  });

  it("nothing renders but for a change that it reads", async ({ page, url, publish, opened }) => {
    await page.run(({ React, h, render, useSSE }, url) => {
      window.rendered = { data: 0, isConnected: 0, selected: 0 };
      const Data = () => {
        window.rendered.data += 1;
        return h("p", null, `data=${useSSE(url, { events: ["tick"] }).data?.n}`);
      };
      const Connected = React.memo(() => {
        window.rendered.isConnected += 1;
        return h("p", null, `connected=${useSSE(url, { events: ["tick"] }).isConnected}`);
      });
      const Selected = React.memo(() => {
        window.rendered.selected += 1;
        return h("p", null, `half=${useSSE(url, { events: ["tick"], select: ({ n }) => n >> 1 }).data}`);
      });
      const App = () => {
        window.again = React.useReducer((n) => n + 1, 0)[1];
        return h("div", null, h(Data), h(Connected), h(Selected));
      };
      render(h(App));
    }, url);
    await page.shows("connected=true");
    for (let n = 2; n <= 5; n += 1) {
      await publish({ n });
      await page.shows(`data=${n}`);
      await publish({ n: -1 }, "other");
    }
    await page.shows("half=2");
    const rendered = await page.run(() => window.rendered);
    assert.deepEqual(rendered, { data: 5, isConnected: 2, selected: 3 });
    const before = await opened();
    // Its options are new objects with each rendering.
    for (let i = 0; i < 5; i += 1) await page.run(({ flushSync }) => flushSync(() => window.again()));
    assert.deepEqual(await page.run(() => window.rendered), { data: 10, isConnected: 2, selected: 3 });
    assert.equal(await opened(), before);
  });

  it("props change: the URL, the types, the topics, and null for none", async ({ page, url, hub, publish, opened, streams }) => {
    const other = `${hub.url}/events?topic=other`;
    await page.run(({ h, render, useSSE }, url) => {
      const View = ({ url, ...options }) => {
        const { data, state } = useSSE(url, options);
        return h("p", null, `${state} ${data}`);
      };
      window.show = (props) => window.root.render(h(View, props));
      window.root = render(h(View, { url, event: "a" }));
    }, url);
    const show = (/** @type {any} */ props) => page.run((_, props) => window.show(props), props);
    await page.shows("open null");
    await publish("one", "a");
    await page.shows("open one");
    await show({ url, event: "b" });
    await page.shows("open null");
    assert.equal(await opened(), 1);
    await publish("two", "b");
    await page.shows("open two");
    await show({ url: other });
    await page.shows("open null");
    await hub.publish({ topic: "other", event: "tick", data: "three" });
    await page.shows("open three");
    await show({ url: `${hub.url}/events`, topics: ["other", "more"] });
    await page.shows("open null");
    await hub.publish({ topic: "more", event: "tick", data: "four" });
    await page.shows("open four");
    await streams(1);
    await show({ url: null });
    await page.shows("closed null");
    await streams(0);
    assert.equal(await opened(), 3);
  });

  it("after a crash of the hub it goes on, and says what was wrong meanwhile", async ({ page, url, hub, publish }) => {
    await page.run(({ h, render, useSSE }, url) => {
      const View = () => {
        const { events, error, isConnected, reconnect } = useSSE(url, { history: 9, maxDelay: 200 });
        window.reconnect = reconnect;
        window.failed ||= error !== null;
        return h("p", null, `${isConnected} ${error?.name} ${events.map((it) => it.data)}.`);
      };
      render(h(View));
    }, url);
    await page.shows("true undefined .");
    await publish(1);
    await page.shows("true undefined 1.");
    await hub.kill();
    await page.shows("false ConnectionError 1.");
    await hub.start();
    await publish(2);
    await page.shows("true undefined 1,2.");
    await page.run(() => window.reconnect());
    await publish(3);
    await page.shows("true undefined 1,2,3.");
    // Chromium tells of the refused connections itself.
    page.errors.splice(0);
  });

  it("what will never be better ends it, and reconnecting tries again", async ({ page, url }) => {
    await page.run(({ h, render, useSSE }, url) => {
      window.requests = 0;
      const counted = (...given) => {
        window.requests += 1;
        return fetch(...given);
      };
      const View = () => {
        const { error, state, reconnect } = useSSE(url, { fetch: (...given) => counted(...given) });
        return h("button", { onClick: reconnect, id: "again" }, `${state} ${error?.status} ${error?.isFinal}`);
      };
      render(h(View));
    }, url.replace("topic_exact", "tpoic"));
    await page.shows("closed 400 true");
    await page.run(() => document.getElementById("again").click());
    await page.run(async () => {
      while (window.requests < 2) await new Promise((resolve) => setTimeout(resolve, 10));
    });
    await page.shows("closed 400 true");
  });

  it("a gap is told", async ({ page, url }) => {
    await page.run(({ h, render, useSSE }, url) => {
      const View = () => h("p", null, `gap=${useSSE(url, { lastEventId: "0123456789abcdef-5" }).gap?.reason}`);
      render(h(View));
    }, url);
    await page.shows("gap=foreign_epoch");
  });

  it("the newest token is asked for, and components that do not share have their own connections", async ({ page, url, streams }) => {
    await page.run(({ React, h, render, useSSE }, url) => {
      window.tokens = [];
      const View = () => {
        const [n, set] = React.useState(0);
        const token = () => {
          window.tokens.push(n);
          return `t${n}`;
        };
        const { isConnected, reconnect } = useSSE(url, { token });
        const own = useSSE(url, { token, share: "other" });
        window.set = (n) => {
          set(n);
          setTimeout(reconnect, 50);
        };
        return h("p", null, `${isConnected} ${own.isConnected}`);
      };
      render(h(View));
    }, url);
    await page.shows("true true");
    await streams(2);
    await page.run(() => window.set(7));
    await page.run(async () => {
      while (window.tokens.length < 3) await new Promise((resolve) => setTimeout(resolve, 10));
    });
    assert.deepEqual(await page.run(() => window.tokens), [0, 0, 7]);
  });

  it("what a server renders connects nothing, and becomes alive without a difference", async ({ page, url, opened }) => {
    const html = await page.run(async ({ h, renderToString, useSSE }, url) => {
      window.View = () => {
        const { data, state, isConnected } = useSSE(url);
        return h("p", null, `${state} ${isConnected} ${JSON.stringify(data)}`);
      };
      return renderToString(h(window.View));
    }, url);
    assert.equal(html, "<p>connecting false null</p>");
    assert.equal(await opened(), 0);
    await page.run(({ React, h, hydrateRoot, place }, html) => {
      const at = place();
      at.innerHTML = html;
      hydrateRoot(at, h(React.StrictMode, null, h(window.View)));
    }, html);
    await page.shows("open true null");
    assert.equal(await opened(), 1);
  });

  it("tabs share a connection with the client's class for that", async ({ page, tab, hub, topic, publish, opened, streams }) => {
    const show = (page) =>
      page.run(
        ({ React, h, render, useSSE, useJob, useTokens, SharedConnection }, { hub, topic }) => {
          const View = () => {
            const shared = { connection: SharedConnection, identity: "ann" };
            const { data, isConnected } = useSSE(`${hub}/events`, { ...shared, topics: [topic], event: "tick" });
            const { percent, isDone } = useJob("shared", { ...shared, url: hub });
            const { text } = useTokens("shared text", { ...shared, url: hub });
            return h("p", null, `${isConnected} ${data} ${percent}% ${isDone} ${text}.`);
          };
          render(h(React.StrictMode, null, h(View)));
        },
        { hub: hub.url, topic },
      );
    await hub.post("/jobs", { job_id: "shared" });
    await hub.post("/jobs/shared/progress", { progress: 30 });
    await hub.publish({ topic: "shared text", event: "token", data: "once" });
    await show(page);
    await page.shows("true null 30% false once.");
    const other = await tab();
    await show(other);
    await other.shows("true null 30% false once.");
    await publish(1);
    await hub.post("/jobs/shared/progress", { progress: 60 });
    await hub.publish({ topic: "shared text", event: "token", data: " upon" });
    for (const each of [page, other]) await each.shows("true 1 60% false once upon.");
    await streams(1);
    await hub.post("/jobs/shared/complete", {});
    for (const each of [page, other]) await each.shows("true 1 100% true once upon.");
    await streams(1);
    assert.deepEqual(other.errors, []);
  });
});

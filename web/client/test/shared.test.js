// Many tabs of a real browser, one connection at a real hub, and every way in which the tab that holds it can go away.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launchWindow } from "../../testing/browser.js";
import { Hub } from "../../testing/hub.js";
import { Pages } from "../../testing/pages.js";

/** @typedef {import("playwright-core").Page} Page */

/** Within so many milliseconds another tab has the connection, and all have what came meanwhile. On two cores it takes 20 to 340 ms. */
const HAND_OVER = 3000;
/** The same where the tab before is silent for two seconds first. On two cores it takes 2.0 to 2.9 s; a busy machine has more. */
const HAND_OVER_OF_SILENT = 10_000;

/** @type {Awaited<ReturnType<typeof launchWindow>>} */
let browser;
/** @type {Pages} */
let pages;
/** @type {Hub} */
let hub;

before(async () => {
  pages = await Pages.start();
  [browser, hub] = await Promise.all([
    // Each tab in a process of its own, so that a crash is that of one.
    launchWindow("--renderer-process-limit=100"),
    Hub.start("--allowed-origin", pages.url),
  ]);
});

after(async () => {
  await browser?.close();
  await hub?.stop();
  pages?.stop();
});

/**
 * Waits until something holds.
 *
 * @param {string} what
 * @param {() => unknown} condition
 */
async function until(what, condition) {
  const end = Date.now() + 15_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * A tab that reads, and keeps the number, type and delay of each event in `got`.
 *
 * @param {string} topic
 * @param {object} [options]
 * @param {string} [script] Runs before all others.
 * @param {string} [url] The hub's.
 */
async function tab(topic, options = {}, script = "", url = hub.url) {
  const page = await browser.window.newPage();
  if (script) await page.addInitScript(script);
  await page.goto(pages.url);
  await page.evaluate(
    async ([url, options]) => {
      const path = "/client/src/shared.js";
      const { SharedConnection } = await import(path);
      /** @type {[number, string, number][]} */
      const got = [];
      const own = Object.assign(window, { connection: new SharedConnection(url, options), got, gaps: 0 });
      for (const type of ["a", "b", "c"]) {
        own.connection.on(type, (/** @type {{n: number, at: number}} */ { n, at }) => own.got.push([n, type, Date.now() - at]));
      }
      own.connection.on("gap", () => (own.gaps += 1));
      await own.connection.connect();
    },
    /** @type {const} */ ([`${url}/events?topic=${topic}`, options]),
  );
  return page;
}

/**
 * @param {Page} page
 * @returns {Promise<[number, string, number][]>}
 */
function got(page) {
  return page.evaluate("got");
}

/**
 * @param {Page} page
 * @returns {Promise<number>} The number of the event that came last.
 */
function latest(page) {
  return page.evaluate("got.at(-1)?.[0] ?? -1");
}

/** @param {Page[]} tabs */
async function leaderOf(tabs) {
  for (;;) {
    const leads = await Promise.all(tabs.map((page) => page.evaluate("connection.isLeading")));
    const index = leads.indexOf(true);
    if (index >= 0) return tabs[index];
  }
}

/** @param {Page[]} tabs */
async function closed(tabs) {
  await Promise.all(tabs.map((page) => page.close()));
  await until("no connection", async () => (await hub.streams()) === 0);
}

/**
 * The process in which a page runs: that in which its worker has a thread.
 *
 * @param {Page} page
 * @returns {Promise<number>}
 */
async function processOf(page) {
  await page.evaluate("void (window.worker = new Worker('data:text/javascript,'))");
  const session = await browser.window.browser()?.newBrowserCDPSession();
  const { processInfo: processes = [] } = (await session?.send("SystemInfo.getProcessInfo")) ?? {};
  let found = 0;
  await until("its worker is there", () => {
    for (const { id } of processes) {
      const threads = readdirSync(`/proc/${id}/task`).map((thread) => readFileSync(`/proc/${id}/task/${thread}/comm`, "utf8"));
      if (threads.some((name) => name.startsWith("DedicatedWorker"))) found = id;
    }
    return found;
  });
  await page.evaluate("worker.terminate()");
  return found;
}

/** Publishes numbered events up to a stop. */
class Publisher {
  /** The number of the next one. */
  n;
  #topic;
  #isStopped = false;
  #done;

  /**
   * @param {string | ((n: number) => string | string[])} topic
   * @param {number} [first]
   */
  constructor(topic, first = 0) {
    this.n = first;
    this.#topic = topic;
    this.#done = this.#run();
  }

  async #run() {
    while (!this.#isStopped) {
      const topic = typeof this.#topic === "function" ? this.#topic(this.n) : this.#topic;
      await hub.publish({ topic, event_type: "a", data: { n: this.n, at: Date.now() } });
      this.n += 1;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  stop() {
    this.#isStopped = true;
    return this.#done;
  }
}

/**
 * Each tab has every number from its first to the last one, once and in order.
 *
 * @param {Page[]} tabs
 * @param {number} count
 */
async function assertComplete(tabs, count) {
  await Promise.all(
    tabs.map(async (page, index) => {
      await until(`tab ${index} has the last of ${count}`, async () => (await latest(page)) === count - 1).catch(async (error) => {
        const state = await page.evaluate("({state: connection.state, last: connection.lastEventId, got: got.length, end: got.at(-1)})");
        throw new Error(`${error.message}: ${JSON.stringify(state)}`);
      });
      const numbers = (await got(page)).map(([n]) => n);
      const wrong = numbers.findIndex((n, i) => n !== numbers[0] + i);
      assert.equal(wrong, -1, `tab ${index} has ${numbers.slice(Math.max(0, wrong - 2), wrong + 3)}`);
      assert.equal(await page.evaluate("gaps"), 0);
    }),
  );
}

/**
 * The longest that an event took to a tab since there were so many.
 *
 * @param {Page} page
 * @param {number} since
 */
async function longest(page, since) {
  return Math.max(...(await got(page)).filter(([n]) => n >= since).map(([, , delay]) => delay));
}

test("many tabs have one connection, and each has every event once, whoever holds it and however that ends", async (t) => {
  let tabs = await Promise.all(Array.from({ length: 20 }, () => tab("many")));
  assert.equal(await hub.streams(), 1);
  const publisher = new Publisher("many");
  const times = /** @type {Record<string, number[]>} */ ({ closed: [], crashed: [], frozen: [], stopped: [] });

  /** @type {Record<string, (page: Page) => Promise<unknown>>} */
  const ends = {
    closed: (page) => page.close(),
    crashed: async (page) => {
      const session = await browser.window.newCDPSession(page);
      const crashed = new Promise((resolve) => page.on("crash", resolve));
      session.send("Page.crash").catch(() => {});
      await crashed;
    },
    frozen: async (page) => {
      await tabs[0].bringToFront();
      const session = await browser.window.newCDPSession(page);
      await session.send("Page.setWebLifecycleState", { state: "frozen" });
      return () => session.send("Page.setWebLifecycleState", { state: "active" });
    },
    // It holds the lock and is silent.
    stopped: async (page) => {
      const own = await processOf(page);
      process.kill(own, "SIGSTOP");
      return () => process.kill(own, "SIGCONT");
    },
  };
  for (const how of ["closed", ...Array(5).fill("crashed"), ...Array(5).fill("frozen"), "stopped"]) {
    const leader = await leaderOf(tabs);
    tabs = tabs.filter((page) => page !== leader);
    const since = publisher.n;
    const thaw = await ends[how](leader);
    await until("events come again", async () => (await Promise.all(tabs.map(latest))).every((n) => n > since + 20));
    // Of all tabs, also of those in the background, the one that waited longest.
    times[how].push(Math.max(...(await Promise.all(tabs.map((page) => longest(page, since))))));
    if (typeof thaw === "function") {
      await thaw();
      tabs.push(leader);
    }
  }
  await publisher.stop();
  for (const [how, all] of Object.entries(times)) t.diagnostic(`${how}: events again within ${all.join(", ")} ms`);
  const { stopped, ...others } = times;
  assert.ok(Math.max(...Object.values(others).flat()) < HAND_OVER, JSON.stringify(times));
  assert.ok(Math.max(...stopped) < HAND_OVER_OF_SILENT, JSON.stringify(times));
  await assertComplete(tabs, publisher.n);
  await until("one connection", async () => (await hub.streams()) === 1);
  await closed(tabs);
});

test("a tab that is stuck loses the connection, and gives it up when it moves again", async (t) => {
  const publisher = new Publisher("stuck");
  const tabs = await Promise.all(Array.from({ length: 4 }, () => tab("stuck")));
  const leader = await leaderOf(tabs);
  const others = tabs.filter((page) => page !== leader);
  const since = publisher.n;
  const stuck = leader.evaluate("{ const until = Date.now() + 4500; while (Date.now() < until); }");
  await leaderOf(others);
  await until("events come again", async () => (await latest(others[0])) > since + 50);
  const time = await longest(others[0], since);
  t.diagnostic(`stuck: events again within ${time} ms`);
  assert.ok(time < HAND_OVER_OF_SILENT, String(time));
  await stuck;
  await until("it is back in the row", () => leader.evaluate("!connection.isLeading"));
  await publisher.stop();
  await assertComplete(tabs, publisher.n);
  await until("one connection", async () => (await hub.streams()) === 1);
  await closed(tabs);
});

test("each tab gets its own types, and the connection those of all", async () => {
  const one = await tab("types", { eventTypes: ["a"] });
  const [connection] = (await hub.request("/events/connections")).connections;
  assert.deepEqual(connection.subscriptions, ["a"]);
  const two = await tab("types", { eventTypes: ["b", "c"] });
  assert.equal(await hub.streams(), 1);
  for (const [n, type] of ["a", "b", "c", "a"].entries()) {
    await hub.publish({ topic: "types", event_type: type, data: { n, at: Date.now() } });
  }
  await until("both have theirs", async () => (await latest(one)) === 3 && (await latest(two)) === 2);
  assert.deepEqual((await got(one)).map(([n]) => n), [0, 3]);
  assert.deepEqual((await got(two)).map(([n]) => n), [1, 2]);
  assert.equal(await one.evaluate("connection.lastEventId"), await two.evaluate("connection.lastEventId"));
  const all = await tab("types");
  await hub.publish({ topic: "types", event_type: "other", data: { n: 4, at: 0 } });
  await hub.publish({ topic: "types", event_type: "b", data: { n: 5, at: 0 } });
  await until("all have it", async () => (await latest(all)) === 5 && (await latest(two)) === 5);
  await all.close();
  // All that on one connection, which was never made anew.
  await until("it has those of the two again", async () => {
    const { connections } = await hub.request("/events/connections");
    return connections.length === 1 && connections[0].subscriptions.join() === "a,b,c" && connections[0].connection_id === connection.connection_id;
  });
  await one.close();
  await until("no longer asked for", async () => {
    const { connections } = await hub.request("/events/connections");
    return connections.length === 1 && connections[0].subscriptions.join() === "b,c";
  });
  await closed([two]);
});

test("a tab that was here before gets what it missed, and then what comes", async () => {
  const first = await tab("missed");
  const { id } = await hub.publish({ topic: "missed", event_type: "a", data: { n: 0, at: 0 } });
  const count = 3000;
  const missed = Array.from({ length: count - 1 }, (_, i) => ({ topic: "missed", event_type: "a", data: { n: i + 1, at: 0 } }));
  await hub.post("/events", missed);
  const publisher = new Publisher("missed", count);
  const tabs = [first, ...(await Promise.all(Array.from({ length: 3 }, () => tab("missed", { lastEventId: id }))))];
  await publisher.stop();
  await assertComplete(tabs, publisher.n);
  assert.equal((await got(tabs[1]))[0][0], 1);
  assert.equal(await hub.streams(), 1);
  await closed(tabs);
});

test("different users do not share, whatever their topics", async () => {
  const tabs = [
    await tab("whose", { identity: "ann" }),
    await tab("whose", { identity: "bob" }),
    await tab("whose", { identity: "ann" }),
    await tab("whose", { token: "secret" }),
    await tab("whose&topic=more", { identity: "ann" }),
    await tab("more", { identity: "bob" }),
    await tab("whose&user_id=ann", { identity: "ann" }),
  ];
  // Of ann, of bob, of whoever shows the token, and of the user in the URL.
  assert.equal(await hub.streams(), 4);
  const names = await tabs[0].evaluate("navigator.locks.query().then(({held}) => held.map(({name}) => name))");
  assert.doesNotMatch(JSON.stringify(names), /ann|bob|secret/);
  await closed(tabs);
});

test("after another login the tabs of the user before keep their stream while it lasts, and then have that of the new one", async () => {
  const application = createServer((asked, answer) => {
    const [, user] = /session=(\w+)/.exec(asked.headers.cookie ?? "") ?? [];
    answer.writeHead(user ? 200 : 401).end(JSON.stringify({ user, grants: { subscribe: ["news"] } }));
  });
  await new Promise((resolve) => application.listen(0, "127.0.0.1", () => resolve(null)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (application.address());
  const about = ["--auth-url", `http://127.0.0.1:${port}/`, "--auth-cookie", "session", "--anonymous", '{"publish": ["*"], "admin": true}'];
  const guarded = await Hub.start("--allowed-origin", pages.url, ...about);
  const login = (/** @type {string} */ user) => browser.window.addCookies([{ name: "session", value: user, url: pages.url }]);
  const reads = (script = "") => tab("news", { withCredentials: true, baseDelay: 100 }, script, guarded.url);
  const publish = (/** @type {number} */ n, /** @type {string} */ topic) => guarded.publish({ topic, event_type: "a", data: { n, at: 0 } });
  const have = (/** @type {Page[]} */ tabs, /** @type {number[]} */ numbers) =>
    until(`they have ${numbers}`, async () => (await Promise.all(tabs.map(got))).every((all) => all.map(([n]) => n).join() === numbers.join()));
  try {
    await login("ann");
    const anns = [await reads(), await reads()];
    assert.equal(await guarded.streams(), 1);
    await login("bob");
    const bobs = await reads();
    assert.equal(await guarded.streams(), 2);
    await publish(0, "news");
    await publish(1, "user/ann");
    await publish(2, "user/bob");
    await publish(3, "news");
    await have(anns, [0, 1, 3]);
    await have([bobs], [0, 2, 3]);
    // What connects anew does so with the cookies that there are.
    await guarded.kill();
    await guarded.start();
    await until("one stream", async () => (await guarded.streams()) === 1);
    const tabs = [...anns, bobs];
    for (const page of tabs) await until("it is connected", () => page.evaluate("connection.isConnected()"));
    await publish(4, "user/ann");
    await publish(5, "user/bob");
    await publish(6, "news");
    await have(anns, [0, 1, 3, 5, 6]);
    await have([bobs], [0, 2, 3, 5, 6]);
    assert.equal(await guarded.streams(), 1);
    // A tab that is not told whose its cookies are hears it from the stream that it opens.
    const last = await reads(`const { fetch } = globalThis;
      globalThis.fetch = (url, init) => (/poll/.test(url) ? new Promise((_, no) => (init.signal.onabort = no)) : fetch(url, init))`);
    await until("one stream", async () => (await guarded.streams()) === 1);
    await publish(7, "user/bob");
    await until("it has it", async () => (await latest(last)) === 7);
    await Promise.all([...tabs, last].map((page) => page.close()));
  } finally {
    await browser.window.clearCookies();
    application.close();
    await guarded.stop();
  }
});

test("twenty tabs with topics of their own have one connection, and each gets its own, whoever holds it", async (t) => {
  const count = 20;
  const forms = [
    { topics: (/** @type {number} */ i) => [`own/${i}/x`], eventTypes: [] },
    { topics: (/** @type {number} */ i) => [`own/${i}/*`], eventTypes: ["a", "b"] },
    { topics: (/** @type {number} */ i) => [`:whose/${i}/:what`, "never/*"], eventTypes: ["a"] },
    { topics: (/** @type {number} */ i) => [`own{/${i}/:what}`], eventTypes: [] },
  ];
  const start = (/** @type {number} */ i) => {
    const { topics, eventTypes } = forms[i % forms.length];
    return tab(`none/${i}`, { topics: topics(i), eventTypes });
  };
  /** @type {[Page, number][]} */
  let tabs = await Promise.all(
    Array.from({ length: count }, async (_, i) => /** @type {[Page, number]} */ ([await start(i), i])),
  );
  const pagesOf = () => tabs.map(([page]) => page);
  assert.equal(await hub.streams(), 1);
  // Some are of two topics, and some are of nobody's here.
  const whose = (/** @type {number} */ n) => (n % 7 === 0 ? [n % count, (n + 1) % count] : n % 11 === 0 ? [count] : [n % count]);
  const publisher = new Publisher((n) => whose(n).map((i) => `own/${i}/x`));
  /** @type {typeof tabs} */
  const frozen = [];
  /** @type {(() => Promise<unknown>)[]} */
  const thaws = [];
  for (const how of ["closed", "crashed", "frozen", "closed"]) {
    const leader = await leaderOf(pagesOf());
    const ended = tabs.filter(([page]) => page === leader);
    tabs = tabs.filter(([page]) => page !== leader);
    const since = publisher.n;
    const session = await browser.window.newCDPSession(leader);
    if (how === "closed") await leader.close();
    if (how === "crashed") {
      const crashed = new Promise((resolve) => leader.on("crash", resolve));
      session.send("Page.crash").catch(() => {});
      await crashed;
    }
    if (how === "frozen") {
      await tabs[0][0].bringToFront();
      await session.send("Page.setWebLifecycleState", { state: "frozen" });
      thaws.push(() => session.send("Page.setWebLifecycleState", { state: "active" }));
      frozen.push(...ended);
    }
    await until("events come again", async () => (await latest(tabs[0][0])) > since + count);
    const times = await Promise.all(pagesOf().map((page) => longest(page, since)));
    t.diagnostic(`${how}: events again within ${Math.max(...times)} ms`);
  }
  for (const thaw of thaws) await thaw();
  tabs.push(...frozen);
  await publisher.stop();
  for (const [page, i] of tabs) {
    const numbers = Array.from({ length: publisher.n }, (_, n) => n).filter((n) => whose(n).includes(i));
    await until(`tab ${i} has its last`, async () => (await latest(page)) === numbers.at(-1));
    assert.deepEqual((await got(page)).map(([n]) => n), numbers);
    assert.equal(await page.evaluate("gaps"), 0);
  }
  const { connections } = await hub.request("/events/connections");
  assert.equal(connections.length, 1);
  await until("what those wanted that are gone is asked for no more", async () => {
    const [{ topics }] = (await hub.request("/events/connections")).connections;
    return topics.filter((/** @type {string} */ topic) => topic.startsWith("none/")).length === tabs.length;
  });
  await closed(pagesOf());
});

test("a tab that comes with another topic gets what it missed of it, and one that leaves takes its topics along", async () => {
  const topics = async () => {
    const { connections } = await hub.request("/events/connections");
    return connections.map((/** @type {{topics: string[]}} */ { topics }) => topics.sort().join(" ")).join("; ");
  };
  const first = await tab("early");
  const { id } = await hub.publish({ topic: "late/1", event_type: "a", data: { n: 0, at: 0 } });
  await hub.publish({ topic: "early", event_type: "a", data: { n: 0, at: 0 } });
  for (let n = 1; n < 50; n += 1) await hub.publish({ topic: "late/1", event_type: "a", data: { n, at: 0 } });
  const publisher = new Publisher("late/1", 50);
  const second = await tab("late/*", { lastEventId: id });
  const third = await tab(`late/1&last_event_id=${id}`);
  await until("all of these are asked for", async () => (await topics()) === "early late/* late/1");
  await publisher.stop();
  await assertComplete([second, third], publisher.n);
  assert.equal((await got(second))[0][0], 1);
  assert.equal((await got(third))[0][0], 1);
  assert.deepEqual((await got(first)).map(([n]) => n), [0]);
  await second.close();
  await until("its pattern is gone", async () => (await topics()) === "early late/1");
  const all = await tab("*");
  await until("everything is asked for", async () => (await topics()) === "");
  await hub.publish({ topic: "other", event_type: "a", data: { n: publisher.n, at: 0 } });
  await hub.publish({ topic: "early", event_type: "a", data: { n: 1, at: 0 } });
  await until("both have it", async () => (await got(all)).length === 2 && (await got(first)).length === 2);
  assert.equal((await got(third)).at(-1)?.[0], publisher.n - 1);
  await all.close();
  await until("not everything is asked for", async () => (await topics()) === "early late/1");
  await closed([first, third]);
});

test("what is somebody's own comes to all of the same name, and what is for a type to those that want the type", async () => {
  const one = await tab("of/1&user_id=ann", { eventTypes: ["a"] });
  const two = await tab("of/2&user_id=ann", { eventTypes: ["b"] });
  assert.equal(await hub.streams(), 1);
  const data = (/** @type {number} */ n) => ({ n, at: 0 });
  await hub.publish({ user_id: "ann", event_type: "c", subscription_filter: "a", data: data(0) });
  await hub.publish({ user_id: "ann", topic: "user/ann", event_type: "b", data: data(1) });
  await hub.publish({ user_id: "bob", event_type: "a", data: data(2) });
  await hub.publish({ topic: ["of/1", "of/2"], event_type: "a", data: data(3) });
  await hub.publish({ topic: ["of/1", "of/2"], event_type: "a", subscription_filter: "b", data: data(4) });
  await hub.publish({ topic: "of/2", event_type: "b", data: data(5) });
  await hub.publish({ topic: "of/1", event_type: "a", data: data(6) });
  await until("both have theirs", async () => (await latest(one)) === 6 && (await latest(two)) === 5);
  assert.deepEqual((await got(one)).map(([n]) => n), [0, 3, 6]);
  assert.deepEqual((await got(two)).map(([n]) => n), [1, 4, 5]);
  await closed([one, two]);
});

test("a tab with which the hub would not go on has another connection, and only its own are told", async () => {
  const names = (/** @type {string} */ prefix, /** @type {number} */ length) => Array.from({ length }, (_, i) => `${prefix}/${i}`);
  const first = await tab("bound", { topics: names("x", 40) });
  const second = await tab("bound", { topics: names("y", 40) });
  assert.equal(await hub.streams(), 2);
  const third = await tab("bound", { topics: names("z", 5) });
  const fourth = await tab("bound", { topics: names("w", 20) });
  assert.equal(await hub.streams(), 2, "whoever meets no place there shares the next one");
  const wrong = await first.evaluate(async (url) => {
    const path = "/client/src/shared.js";
    const { SharedConnection } = await import(path);
    const connection = new SharedConnection(`${url}/events?topic=bound/(a)`, { autoConnect: false });
    const error = await connection.connect().catch((/** @type {any} */ error) => error);
    return [connection.state, error.status];
  }, hub.url);
  assert.deepEqual(wrong, ["closed", 400]);
  for (const [n, topic] of ["y/39", "z/4", "x/0", "w/19", "bound"].entries()) {
    await hub.publish({ topic, event_type: "a", data: { n, at: 0 } });
  }
  for (const [page, own] of /** @type {[Page, number][]} */ ([[first, 2], [second, 0], [third, 1], [fourth, 3]])) {
    await until("it has the last", async () => (await latest(page)) === 4);
    assert.deepEqual((await got(page)).map(([n]) => n), [own, 4]);
  }
  await until("two connections", async () => (await hub.streams()) === 2);
  await closed([first, second, third, fourth]);
});

for (const missing of ["navigator.locks", "BroadcastChannel"]) {
  test(`without ${missing} each tab connects for itself`, async () => {
    const [object, name] = missing.includes(".") ? ["Navigator.prototype", "locks"] : ["globalThis", missing];
    const script = `Object.defineProperty(${object}, "${name}", {value: undefined})`;
    const tabs = [await tab("alone", {}, script), await tab("alone", {}, script)];
    assert.equal(await hub.streams(), 2);
    await hub.publish({ topic: "alone", event_type: "a", data: { n: 0, at: 0 } });
    await until("both have it", async () => (await latest(tabs[0])) === 0 && (await latest(tabs[1])) === 0);
    await closed(tabs);
  });
}

test("the hub's restart is waited for once, and nothing is missing after it", async () => {
  const tabs = await Promise.all(Array.from({ length: 3 }, () => tab("restart")));
  await hub.publish({ topic: "restart", event_type: "a", data: { n: 0, at: 0 } });
  await until("all have it", async () => (await Promise.all(tabs.map(latest))).every((n) => n === 0));
  await hub.kill();
  for (const page of tabs) await until("it knows that", () => page.evaluate("!connection.isConnected()"));
  await hub.start();
  for (let n = 1; n < 50; n += 1) await hub.publish({ topic: "restart", event_type: "a", data: { n, at: 0 } });
  await assertComplete(tabs, 50);
  assert.equal(await hub.streams(), 1);
  await closed(tabs);
});

test("what the hub refuses for good ends every tab, with its reason", async () => {
  const tabs = await Promise.all(Array.from({ length: 3 }, () => tab("fine")));
  const reasons = await Promise.all(
    tabs.map((page) =>
      page.evaluate(async (url) => {
        const path = "/client/src/shared.js";
        const { SharedConnection } = await import(path);
        const connection = new SharedConnection(`${url}/events?topc=a`, { autoConnect: false });
        const error = await connection.connect().catch((/** @type {any} */ error) => error);
        return [connection.state, error.status, error.isFinal, error.message];
      }, hub.url),
    ),
  );
  for (const [state, status, isFinal, message] of /** @type {any[]} */ (reasons)) {
    assert.deepEqual([state, status, isFinal], ["closed", 400, true]);
    assert.match(message, /topc/);
  }
  await closed(tabs);
});

test("a tab that joins a job's stream begins with the job's state, as the first one did", async () => {
  await hub.post("/jobs", { job_id: "long", title: "Long" });
  await hub.post("/jobs/long/progress", { progress: 2, total: 9, step: "x" });
  await hub.post("/jobs", { job_id: "other", title: "Other" });
  const begins = (/** @type {Page} */ page, job = "long") =>
    page.evaluate(async (url) => {
      const path = "/client/src/shared.js";
      const { SharedConnection } = await import(path);
      const connection = new SharedConnection(url, { eventTypes: ["status", "progress"] });
      /** @type {any[]} */
      const events = [];
      Object.assign(window, { events });
      for (const type of ["status", "progress"]) {
        connection.on(type, (/** @type {any} */ data) => events.push([type, data.progress, data.step]));
      }
    }, `${hub.url}/events?topic=job/${job}`);
  const tabs = [await browser.window.newPage(), await browser.window.newPage(), await browser.window.newPage()];
  for (const [n, page] of tabs.entries()) {
    await page.goto(pages.url);
    await begins(page, n === 2 ? "other" : "long");
    await until(`${n} has the state`, () => page.evaluate("events.length"));
  }
  const [other] = tabs.splice(2);
  assert.equal(await hub.streams(), 1);
  await hub.post("/jobs/long/progress", { progress: 3 });
  for (const page of tabs) {
    await until("it has the progress", () => page.evaluate("events.length > 1"));
    const events = await page.evaluate("JSON.stringify(events)");
    assert.equal(events, '[["status",2,"x"],["progress",3,null]]');
  }
  await hub.post("/jobs/other/progress", { progress: 4 });
  await until("it has the progress", () => other.evaluate("events.length > 1"));
  const events = await other.evaluate("JSON.stringify(events.map(([type, progress]) => [type, progress ?? 0]))");
  assert.equal(events, '[["status",0],["progress",4]]');
  await closed([...tabs, other]);
});

test("a reader that is slow does not stop the others, and misses nothing", async () => {
  const tabs = [await tab("slow"), await tab("slow")];
  await tabs[0].evaluate(() => {
    const own = /** @type {any} */ (window);
    own.read = [];
    own.go = new Promise((resolve) => (own.start = resolve));
    (async () => {
      for await (const event of own.connection) {
        if (event.type !== "a") continue;
        if (own.read.push(JSON.parse(event.data).n) === 1) await own.go;
      }
    })();
  });
  const padding = "x".repeat(4096);
  for (let start = 0; start < 3000; start += 500) {
    const batch = Array.from({ length: 500 }, (_, i) => ({ topic: "slow", event_type: "a", data: { n: start + i, at: 0, padding } }));
    await hub.post("/events", batch);
  }
  await assertComplete([tabs[1]], 3000);
  assert.ok((await got(tabs[0])).length < 3000);
  await tabs[0].evaluate("start()");
  await assertComplete(tabs, 3000);
  await until("all is read", () => tabs[0].evaluate("read.length === 3000 && read.every((n, i) => n === i)"));
  await closed(tabs);
});

test("a tab that comes back from the back-forward cache goes on where it was", async () => {
  const tabs = [await tab("cached"), await tab("cached")];
  assert.ok(await tabs[0].evaluate("connection.isLeading"));
  await tabs[0].bringToFront();
  await tabs[0].evaluate("addEventListener('pageshow', ({persisted}) => window.wasKept = persisted)");
  await tabs[0].goto("about:blank");
  await until("the other holds it", () => tabs[1].evaluate("connection.isLeading && connection.isConnected()"));
  for (let n = 0; n < 10; n += 1) await hub.publish({ topic: "cached", event_type: "a", data: { n, at: 0 } });
  await assertComplete([tabs[1]], 10);
  await tabs[0].goBack({ waitUntil: "commit" });
  assert.equal(await tabs[0].evaluate("wasKept"), true);
  await hub.publish({ topic: "cached", event_type: "a", data: { n: 10, at: 0 } });
  await assertComplete(tabs, 11);
  assert.equal(await hub.streams(), 1);
  await closed(tabs);
});

test("a token that is over ends its own tab, and another goes on with its own", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sse-web-"));
  const secret = "s".repeat(48);
  writeFileSync(join(folder, "secret"), secret);
  const guarded = await Hub.start("--allowed-origin", pages.url, "--jwt-secret", join(folder, "secret"));
  /**
   * @param {number} seconds
   * @param {object} sse
   */
  const token = (seconds, sse) => {
    const parts = [{ alg: "HS256", typ: "JWT" }, { sub: "ann", exp: Math.floor(Date.now() / 1000) + seconds, sse }];
    const text = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
    return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
  };
  const headers = { Authorization: `Bearer ${token(60, { publish: ["*"] })}`, "Content-Type": "application/json" };
  const publish = (/** @type {number} */ n) =>
    guarded.request("/events", { method: "POST", headers, body: JSON.stringify({ topic: "mine", event_type: "a", data: { n, at: 0 } }) });
  try {
    const short = await tab("mine", { identity: "ann", token: token(3, { subscribe: ["mine"] }) }, "", guarded.url);
    const long = await tab("mine", { identity: "ann", eventTypes: ["a"], token: token(60, { subscribe: ["mine"] }) }, "", guarded.url);
    assert.ok(await short.evaluate("connection.isLeading"));
    await publish(0);
    await until("its token is over", () => short.evaluate("connection.state === 'closed'"));
    assert.equal(await short.evaluate("connection.error.status"), 401);
    await publish(1);
    await assertComplete([long], 2);
    assert.ok(await long.evaluate("connection.isLeading"));
    await Promise.all([short.close(), long.close()]);
  } finally {
    await guarded.stop();
    rmSync(folder, { recursive: true });
  }
});

// The client in a real browser on bad days: networks that go and come, proxies, sleep, and pages that are left and come back to.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer, request as ask } from "node:http";
import { after, before, test } from "node:test";

import { launch, launchWindow } from "../../testing/browser.js";
import { Hub } from "../../testing/hub.js";

/** Within so many milliseconds a page asks again, by its own clock. */
const SOON = 2000;
/** A busy machine may take as long until an event has come that was waited for from outside of the page. */
const SEEN = 10_000;
/** A service worker that lets everything through. */
const WORKER = `self.addEventListener("install", () => self.skipWaiting());
  self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
  self.addEventListener("fetch", (event) => event.respondWith(fetch(event.request)));`;

/** @type {Hub} */
let hub;
/** @type {import("playwright-core").Browser} */
let browser;
/** What pages load, and the hub behind it: one origin, as a proxy makes it. @type {import("node:http").Server} */
let proxy;
let origin = "";
/** What passes at the moment. @type {Set<() => void>} */
const passing = new Set();

/** How often the model was asked, and its answers that go on. */
let posts = 0;
/** @type {Set<import("node:http").ServerResponse>} */
const answers = new Set();

/** From now on nothing comes any more of what passes, and nothing is closed either. */
const mute = () => passing.forEach((silence) => silence());

before(async () => {
  proxy = createServer(async (asked, answer) => {
    const path = asked.url ?? "/";
    if (path === "/worker.js") return void answer.writeHead(200, { "Content-Type": "text/javascript" }).end(WORKER);
    if (path.startsWith("/client/src/")) {
      return void answer.writeHead(200, { "Content-Type": "text/javascript" }).end(await readFile(new URL(`../..${path}`, import.meta.url)));
    }
    if (path === "/answers") {
      posts += 1;
      answers.add(answer);
      answer.on("close", () => answers.delete(answer));
      return void answer.writeHead(200, { "Content-Type": "text/event-stream" }).write(`event: tick\ndata: ${posts}\n\n`);
    }
    if (!path.startsWith("/events")) return void answer.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>page</title>");
    const passed = ask(hub.url + path, { method: asked.method, headers: { ...asked.headers, host: new URL(hub.url).host } }, (from) => {
      answer.writeHead(from.statusCode ?? 502, from.headers);
      from.pipe(answer);
      const silence = () => void from.unpipe(answer).resume();
      passing.add(silence);
      answer.on("close", () => passing.delete(silence));
      from.on("error", () => answer.destroy());
      from.on("aborted", () => answer.destroy());
    });
    passed.on("error", () => (answer.headersSent ? answer.destroy() : answer.writeHead(502, { "Content-Type": "text/html" }).end("<h1>Bad Gateway</h1>")));
    answer.on("close", () => passed.destroy());
    asked.pipe(passed);
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", () => resolve(null)));
  const address = /** @type {import("node:net").AddressInfo} */ (proxy.address());
  origin = `http://127.0.0.1:${address.port}`;
  [hub, browser] = await Promise.all([Hub.start(), launch()]);
});
after(async () => {
  await browser?.close();
  proxy?.closeAllConnections();
  proxy?.close();
  await hub?.stop();
});

/**
 * Waits until something holds; how many milliseconds that took.
 *
 * @param {string} what
 * @param {() => unknown} condition
 */
async function until(what, condition) {
  const began = Date.now();
  while (!(await condition())) {
    if (Date.now() > began + 10_000) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return Date.now() - began;
}

/**
 * A page that reads, keeps the data of what comes in `got` and its states in `states`, and what went wrong on it.
 *
 * @param {string} topic
 * @param {object} [options] The connection's.
 * @param {{script?: string, url?: string}} [about] Runs before the connection is made; the stream's URL without its query.
 */
async function reader(topic, options = {}, { script = "", url = "/events" } = {}) {
  const context = await browser.newContext();
  const page = await context.newPage();
  /** @type {string[]} */
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  await page.goto(origin);
  await page.evaluate(`(async () => {
    const { SSEConnection } = await import("/client/src/index.js");
    ${script};
    const connection = new SSEConnection(${JSON.stringify(url)}, { topics: [${JSON.stringify(topic)}], ...(${script && "window.options ??"} {}), ...${JSON.stringify(options)} });
    Object.assign(window, { connection, got: [], states: [] });
    connection.on("tick", (data) => got.push(data));
    connection.addEventListener("statechange", () => states.push(connection.state));
    await connection.connect();
  })()`);
  return { page, context, wrong };
}

/** @param {string} topic @param {unknown} data */
const tick = (topic, data) => hub.publish({ topic, event_type: "tick", data });
/** @param {import("playwright-core").Page} page @returns {Promise<any>} */
const got = (page) => page.evaluate("got");
/** @param {import("playwright-core").Page} page @param {string} name */
const is = (page, name) => until(name, () => page.evaluate(`connection.state === "${name}"`));

/** Waits twenty seconds between attempts, unless something wakes it. */
const slow = { baseDelay: 20_000, pollAfter: 0 };
const patient = {
  script: `window.asked = [];
    window.options = { random: () => 0.99, fetch: (...request) => { asked.push(performance.now()); return fetch(...request); } };
    addEventListener("online", () => window.woken = performance.now(), true);
    addEventListener("pageshow", () => window.woken = performance.now(), true)`,
};

/**
 * Milliseconds from what woke the page to its next request.
 *
 * @param {import("playwright-core").Page} page
 */
async function askedAfter(page) {
  await until("it asks", () => page.evaluate("asked.some((at) => at >= woken)"));
  const took = Number(await page.evaluate("asked.find((at) => at >= woken) - woken"));
  assert(took <= SOON, `${took} ms`);
  return Math.round(took);
}

test("a network that is back is used at once, whatever the wait was", { timeout: 60_000 }, async (t) => {
  const { page, context, wrong } = await reader("net", slow, patient);
  await tick("net", 1);
  await until("the first", async () => (await got(page)).length === 1);
  await context.setOffline(true);
  await page.evaluate("void connection.reconnect()");
  await is(page, "waiting");
  await tick("net", 2);
  assert(Number(await page.evaluate("connection.retryAt - Date.now()")) > 10_000);
  await context.setOffline(false);
  const took = await until("what was missed", async () => (await got(page)).length === 2);
  t.diagnostic(`online: asked after ${await askedAfter(page)} ms, seen after ${took} ms`);
  assert.deepEqual([await got(page), wrong], [[1, 2], []]);
  await context.close();
});

test("a hub that restarts behind a proxy, which shows a page meanwhile, loses nothing", { timeout: 60_000 }, async (t) => {
  const { page, context, wrong } = await reader("restart", { baseDelay: 200 });
  await tick("restart", 1);
  await until("the first", async () => (await got(page)).length === 1);
  await hub.kill();
  await until("a page", () => page.evaluate("connection.error?.status === 502"));
  await hub.start();
  await tick("restart", 2);
  const took = await until("what was missed", async () => (await got(page)).length === 2);
  t.diagnostic(`after the restart: ${took} ms`);
  await until("the stream", () => page.evaluate("connection.state === 'open'"));
  await tick("restart", 3);
  await until("the third", async () => (await got(page)).length === 3);
  assert.deepEqual([await got(page), wrong], [[1, 2, 3], []]);
  await context.close();
});

test("a service worker that lets requests through changes nothing", { timeout: 60_000 }, async () => {
  const script = `const ready = new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve));
    await navigator.serviceWorker.register("/worker.js"); await ready`;
  const { page, context, wrong } = await reader("worker", { baseDelay: 200 }, { script });
  assert(await page.evaluate("navigator.serviceWorker.controller !== null"));
  for (const n of [1, 2, 3]) {
    await tick("worker", n);
    await until("each at once", async () => (await got(page)).length === n);
  }
  await hub.kill();
  await until("it notices", () => page.evaluate("connection.error !== null"));
  await hub.start();
  await tick("worker", 4);
  await until("what was missed", async () => (await got(page)).length === 4);
  await is(page, "open");
  await page.evaluate("connection.close()");
  await until("the hub is told of the end", async () => (await hub.streams()) === 0);
  assert.deepEqual([await got(page), wrong], [[1, 2, 3, 4], []]);
  await context.close();
});

test("a page that comes back from the back-forward cache has what it missed", { timeout: 60_000 }, async (t) => {
  const { page, context, wrong } = await reader("cache", slow, patient);
  await tick("cache", 1);
  await until("the first", async () => (await got(page)).length === 1);
  await page.evaluate("addEventListener('pageshow', ({ persisted }) => window.wasKept = persisted)");
  await page.goto("about:blank");
  await tick("cache", 2);
  await page.waitForTimeout(500);
  await page.goBack({ waitUntil: "commit" });
  const took = await until("what was missed", async () => (await got(page)).length === 2);
  t.diagnostic(`back: asked after ${await askedAfter(page)} ms, seen after ${took} ms`);
  assert.equal(await page.evaluate("wasKept"), true);
  await tick("cache", 3);
  await until("what comes", async () => (await got(page)).length === 3);
  assert.deepEqual([await got(page), wrong], [[1, 2, 3], []]);
  await context.close();
});

/** A machine that sleeps: the clock on the wall goes on, timers do not. */
const clock = "const now = Date.now; window.slept = 0; Date.now = () => now() + slept";

test("a machine that wakes goes on at once, from a wait as from a stream that has died", { timeout: 60_000 }, async (t) => {
  const { page, context, wrong } = await reader("sleep", slow, { script: `${patient.script}; ${clock}` });
  await tick("sleep", 1);
  await until("the first", async () => (await got(page)).length === 1);
  await page.evaluate("slept += 600_000");
  await tick("sleep", 2);
  // The stream is alive here, and yet nobody can know: it may be cut, or be read on.
  let took = await until("what comes", async () => (await got(page)).length === 2);
  assert(took < SEEN, `${took} ms`);
  await hub.kill();
  await is(page, "waiting");
  await hub.start();
  await tick("sleep", 3);
  await page.waitForTimeout(700);
  assert.equal(await page.evaluate("connection.state"), "waiting");
  await page.evaluate("slept += 600_000; woken = performance.now()");
  took = await until("what was missed", async () => (await got(page)).length === 3);
  t.diagnostic(`awake: asked after ${await askedAfter(page)} ms, seen after ${took} ms`);
  assert.deepEqual([await got(page), wrong], [[1, 2, 3], []]);
  await context.close();
});

test("a machine that wakes beside a stream that is half open connects anew", { timeout: 60_000 }, async (t) => {
  const { page, context, wrong } = await reader("half", slow, { script: `${patient.script}; ${clock}` });
  await tick("half", 1);
  await until("the first", async () => (await got(page)).length === 1);
  mute();
  await tick("half", 2);
  await page.waitForTimeout(1500);
  assert.deepEqual(await got(page), [1]);
  // Less than what the watchdog waits for.
  await page.evaluate("slept += 20_000; window.woken = performance.now()");
  const took = await until("what was missed", async () => (await got(page)).length === 2);
  t.diagnostic(`half open: asked after ${await askedAfter(page)} ms, seen after ${took} ms`);
  assert.deepEqual([await got(page), await page.evaluate("connection.error"), wrong], [[1, 2], null, []]);
  await context.close();
});

test("an id of any characters is gone on after, in a browser, too", { timeout: 60_000 }, async () => {
  const { page, context, wrong } = await reader("letters", { baseDelay: 200 });
  await hub.publish({ topic: "letters", event_type: "tick", id: "\u00fc\u6f22", data: 1 });
  await until("the first", async () => (await got(page)).length === 1);
  const id = await page.evaluate("connection.lastEventId");
  await hub.kill();
  await until("it notices", () => page.evaluate("connection.error !== null"));
  await hub.start();
  await tick("letters", 2);
  await until("what was missed", async () => (await got(page)).length === 2);
  assert.deepEqual([await got(page), id, wrong], [[1, 2], "\u00fc\u6f22", []]);
  await context.close();
});

test("a token that expires is renewed, and nothing is missing", { timeout: 60_000 }, async (t) => {
  const secret = hub.file("secret", "k".repeat(48));
  const token = (/** @type {string} */ expires) => hub.token("--jwt-secret", secret, "--subscribe", "mine", "--publish", "mine", "--user", "ann", "--expires", expires);
  const guarded = await Hub.start("--jwt-secret", secret, "--allowed-origin", origin);
  try {
    const tokens = [token("6s"), token("1h"), token("1h")];
    const script = `const tokens = ${JSON.stringify(tokens)}; window.asked = []; window.options = { token: (renew) => { asked.push(renew); return tokens.shift(); } }`;
    const { page, context, wrong } = await reader("mine", {}, { script, url: `${guarded.url}/events` });
    const publish = (/** @type {number} */ data) =>
      guarded.request("/events", { method: "POST", headers: { Authorization: `Bearer ${tokens[1]}` }, body: JSON.stringify({ topic: "mine", event_type: "tick", data }) });
    let n = 0;
    let longest = 0;
    const end = Date.now() + 8000;
    while (Date.now() < end) {
      n += 1;
      await publish(n);
      longest = Math.max(longest, await until("it comes", async () => (await got(page)).length === n));
    }
    t.diagnostic(`the longest wait: ${longest} ms`);
    assert(longest < SEEN, `${longest} ms`);
    assert.deepEqual(await got(page), Array.from({ length: n }, (_, i) => i + 1));
    assert.deepEqual([await page.evaluate("asked.length"), wrong], [2, []]);
    assert(!page.url().includes("ey"));
    await context.close();
  } finally {
    await guarded.stop();
  }
});

test("handlers that throw are reported, and the stream goes on", { timeout: 60_000 }, async () => {
  const { page, context, wrong } = await reader("throws", {});
  const asked = /** @type {string[]} */ ([]);
  page.on("request", (request) => asked.push(request.url()));
  await page.evaluate(`
    const fail = () => { throw new Error("mine"); };
    connection.on("tick", fail);
    connection.addEventListener("message", fail);
    for (const name of ["onmessage", "onevent", "onopen", "onerror"]) connection[name] = fail;`);
  for (const data of [1, 2, 3]) await hub.publish([{ topic: "throws", data: "a message" }, { topic: "throws", event_type: "tick", data }]);
  await until("all", async () => (await got(page)).length === 3);
  assert.equal(asked.length, 0, "on the same connection");
  // Of each event: its listener, and `onevent`; of a message `onmessage`, too.
  await until("each is told", () => wrong.length === 3 * (3 + 2));
  assert.deepEqual(new Set(wrong), new Set(["Error: mine"]));
  await hub.kill();
  await is(page, "waiting");
  await hub.start();
  await is(page, "open");
  await context.close();
});

test("a question is asked once, however often its tab is left and come back to", { timeout: 60_000 }, async () => {
  const { window: seen, close } = await launchWindow();
  try {
    for (const repeat of [false, true]) {
      posts = 0;
      const page = await seen.newPage();
      await page.goto(origin);
      await page.evaluate(`(async () => {
        const { SSEConnection } = await import("/client/src/index.js");
        const connection = new SSEConnection("/answers", { method: "POST", body: "question", repeat: ${repeat} });
        Object.assign(window, { connection, got: [], seen: [] });
        connection.on("tick", (data) => got.push(data));
        addEventListener("visibilitychange", () => window.seen.push(document.visibilityState));
        await connection.connect();
      })()`);
      await until("the answer begins", async () => (await got(page)).length === 1);
      const other = await seen.newPage();
      for (let n = 0; n < 3; n += 1) {
        await other.bringToFront();
        await until("it is hidden", () => page.evaluate("document.hidden"));
        await page.bringToFront();
        await until("it is seen", () => page.evaluate("!document.hidden"));
      }
      // The looks that follow on a page that is seen again.
      await page.waitForTimeout(1500);
      for (const answer of answers) answer.write("event: tick\ndata: 99\n\n");
      await until("the answer goes on", async () => (await got(page)).length === 2);
      assert.deepEqual([posts, await got(page), await page.evaluate("connection.state")], [1, [1, 99], "open"]);
      assert.deepEqual(await page.evaluate("window.seen.length"), 6);
      // Cut in the middle: what was asked for may have been done.
      for (const answer of answers) answer.destroy();
      if (repeat) await until("it is asked again", () => posts === 2);
      else await until("it ends", () => page.evaluate("connection.state === 'closed'"));
      await page.bringToFront();
      await page.waitForTimeout(1000);
      assert.equal(posts, repeat ? 2 : 1);
      await Promise.all([page.close(), other.close()]);
    }
  } finally {
    await close();
  }
});

test("a question is not asked again by a page that comes back from the back-forward cache", { timeout: 60_000 }, async () => {
  const { window: seen, close } = await launchWindow();
  try {
    for (const repeat of [false, true]) {
      posts = 0;
      const page = await seen.newPage();
      await page.goto(origin);
      await page.evaluate(`(async () => {
        const { SSEConnection } = await import("/client/src/index.js");
        const connection = new SSEConnection("/answers", { method: "POST", body: "question", repeat: ${repeat}, baseDelay: 100 });
        addEventListener("pageshow", ({ persisted }) => (window.wasKept = persisted));
        Object.assign(window, { connection, got: [] });
        connection.on("tick", (data) => got.push(data));
        await connection.connect();
      })()`);
      await until("the answer begins", async () => (await got(page)).length === 1);
      await page.goto("about:blank");
      await page.goBack({ waitUntil: "commit" });
      assert.equal(await page.evaluate("wasKept"), true);
      // A stream that was kept may be dead: one that may be repeated is asked for again, and the other goes on if it can.
      if (repeat) await until("it is asked again", () => posts === 2);
      await page.waitForTimeout(1500);
      for (const answer of answers) answer.write("event: tick\ndata: 99\n\n");
      await until("it goes on", async () => (await got(page)).at(-1) === 99);
      assert.deepEqual(await got(page), repeat ? [1, 2, 99] : [1, 99]);
      assert.equal(posts, repeat ? 2 : 1);
      await page.close();
    }
  } finally {
    await close();
  }
});

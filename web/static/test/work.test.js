// The pages of a hub at work: what they show is right, what they tell to type works, and all of it can be done without a mouse.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { launch } from "../../testing/browser.js";
import { Hub } from "../../testing/hub.js";
import { open, panel } from "../../testing/page.js";

/** @typedef {import("playwright-core").Page} Page */

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
/** A busy machine needs this at times. */
const PATIENCE = { timeout: 60_000 };

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Set<() => void>} */
const ends = new Set();
before(async () => {
  browser = await launch();
});
after(async () => {
  for (const end of ends) end();
  await browser?.close();
});

/**
 * Waits until something holds.
 *
 * @template T
 * @param {string} what
 * @param {() => Promise<T> | T} condition
 */
async function until(what, condition) {
  const end = Date.now() + PATIENCE.timeout;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/**
 * A command line, as somebody types it. What it has said so far, and how it ends.
 *
 * @param {string} line
 */
function shell(line) {
  const program = spawn("sh", ["-c", line], { stdio: ["ignore", "pipe", "ignore"], detached: true });
  const run = { said: "", code: /** @type {Promise<number | null>} */ (new Promise((resolve) => program.on("exit", resolve))), end };
  program.stdout.on("data", (text) => (run.said += text));
  function end() {
    ends.delete(end);
    try {
      process.kill(-(program.pid ?? 0), "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
  ends.add(end);
  return run;
}

/**
 * A stream that is read until it ends; whether it has.
 *
 * @param {string} url
 * @param {RequestInit} [init]
 */
async function reader(url, init) {
  const abort = new AbortController();
  const answer = await fetch(url, { ...init, signal: abort.signal });
  const it = { status: answer.status, isEnded: false, end: () => abort.abort() };
  ends.add(it.end);
  (async () => {
    try {
      for await (const chunk of /** @type {any} */ (answer.body)) if (!chunk) return;
    } catch {
      // It was ended from here.
    }
    it.isEnded = true;
  })();
  return it;
}

test("what the empty panels say to type fills them", async () => {
  const hub = await Hub.start();
  const { page, wrong, context } = await open(browser, hub.url, "/console");
  const runs = [];
  try {
    for (const [title, row] of [["Topics", "news"], ["Jobs", "A demo"], ["Named subscriptions", "mailer"]]) {
      const empty = panel(page, title).locator(".empty pre");
      await empty.waitFor(PATIENCE);
      runs.push(shell(await empty.innerText()));
      await panel(page, title).locator("tr", { hasText: row }).waitFor(PATIENCE);
      assert.equal(await empty.isVisible(), false);
    }
    // The console's own stream is a reader.
    await panel(page, "Connections").locator("tr", { hasText: "curl/" }).waitFor(PATIENCE);
    assert.deepEqual(wrong, []);
  } finally {
    for (const run of runs) run.end();
    await context.close();
    await hub.stop();
  }
});

test("what the test page copies as curl does what the page does", async () => {
  const hub = await Hub.start();
  const { page, wrong, context } = await open(browser, hub.url, "/sse-test", { permissions: ["clipboard-read", "clipboard-write"] });
  const copied = async (/** @type {string} */ button) => {
    await page.click(button);
    return until("it is copied", () => page.evaluate("navigator.clipboard.readText()"));
  };
  try {
    await page.fill("#topics", "it's/*");
    await page.click("#open");
    await page.locator("#state", { hasText: "Connected" }).waitFor(PATIENCE);
    const connect = shell(String(await copied("#copy-connect")));
    await until("curl reads too", async () => (await hub.streams()) === 2);
    // What a shell would make something of.
    const data = { words: "it's `id` $HOME \"$(id)\" \\ !x", lines: "a\nb" };
    await page.fill("#topic", "it's/one");
    await page.fill("#event-type", "odd 'type'");
    await page.fill("#data", JSON.stringify(data));
    await page.evaluate("navigator.clipboard.writeText('')");
    const line = String(await copied("#copy-publish"));
    const publish = shell(line);
    assert.equal(await publish.code, 0, line);
    assert.equal(JSON.parse(publish.said).durability, "fsync");
    await page.locator("#log li", { hasText: "odd 'type'" }).waitFor(PATIENCE);
    await until("curl has it", () => connect.said.includes("odd 'type'"));
    const [, said = ""] = connect.said.match(/event: odd 'type'\n(?:id: .*\n)?data: (.*)\n/) ?? [];
    assert.deepEqual(JSON.parse(said), data);
    connect.end();
    assert.deepEqual(wrong, []);
  } finally {
    await context.close();
    await hub.stop();
  }
});

/** A hub with readers, jobs, a subscription that is behind, and streams that were refused. */
async function busyHub() {
  const hub = await Hub.start("--max-connections-per-ip", "8");
  const readers = [
    await reader(`${hub.url}/events?topic=news&user_id=bob`),
    await reader(`${hub.url}/events?topic=news&user_id=ann`, { headers: { "Accept-Encoding": "gzip" } }),
    await reader(`${hub.url}/events?topic=order/*&user_id=cleo`),
  ];
  const mailer = await reader(`${hub.url}/events?durable=mailer&topic=order/*`);
  await hub.publish({ topic: "order/0", data: 0 });
  mailer.end();
  await until("it is gone", async () => (await hub.streams()) === 3);
  await hub.post("/events", Array.from({ length: 7 }, (_, n) => ({ topic: `order/${n}`, event_type: "order", data: { n } })));
  await hub.post("/jobs", { job_id: "import", title: "Import customers", total: 10 });
  await hub.post("/jobs/import/progress", { progress: 4, message: "row 4" });
  await hub.post("/jobs", { job_id: "report", title: "Report" });
  await hub.post("/jobs/report/error", { error: "the disk is full" });
  for (let n = 0; n < 40; n += 1) await hub.publish({ topic: "news", event_type: "headline", data: { title: `Story ${n}`, text: "x".repeat(400) } });
  return { hub, readers };
}

test("the figures of the console are the hub's", async () => {
  const { hub } = await busyHub();
  const { page, wrong, context } = await open(browser, hub.url, "/console");
  try {
    await until("the console reads", async () => (await hub.streams()) === 4);
    const more = [];
    for (let n = 0; n < 7; n += 1) more.push(await reader(`${hub.url}/events?topic=other`));
    assert.equal(more.filter(({ status }) => status === 503).length, 3);
    const cell = (/** @type {string} */ title, /** @type {string} */ row, /** @type {number} */ at) => panel(page, title).locator("tr", { hasText: row }).first().locator("td").nth(at);
    const figure = (/** @type {string} */ label) => panel(page, "Overview").locator(".figures div", { hasText: label }).locator("b").innerText();
    await panel(page, "Refused and dropped").locator("tr", { hasText: "too many of one address" }).waitFor(PATIENCE);
    assert.equal(await cell("Refused and dropped", "too many of one address", 1).innerText(), "3");
    await until("how far it is behind", async () => (await cell("Named subscriptions", "mailer", 2).innerText().catch(() => "")) !== "");
    const { subscriptions } = await hub.request("/events/subscriptions");
    assert.equal(await cell("Named subscriptions", "mailer", 2).innerText(), String(subscriptions[0].behind));
    assert(subscriptions[0].behind >= 7, JSON.stringify(subscriptions));
    await until("all streams", async () => (await figure("streams of")) === "8");
    const stats = await hub.request("/events/stats");
    const health = await hub.request("/health");
    for (const [account, { max_bytes: max }] of Object.entries(stats.memory)) {
      const shown = await cell("Memory by account", account, 3).innerText();
      const [number = "0", unit = "B"] = shown.split(" ");
      const bytes = Number(number) * 1024 ** ["B", "KiB", "MiB", "GiB"].indexOf(unit);
      assert(Math.abs(bytes - max) <= max / 20, `${account}: ${shown} for ${max}`);
    }
    const [rss = "0", unit] = (await figure("memory of the hub")).split(" ");
    assert.equal(unit, "MiB");
    assert(Math.abs(Number(rss) * 2 ** 20 - health.system.rss_bytes) < health.system.rss_bytes / 3, `${rss} MiB for ${health.system.rss_bytes}`);
    assert.match(await figure("CPU of the hub"), /^\d+(\.\d)? %$/);
    const { bytes_in: plain, bytes_out: packed } = stats.compression.streams;
    assert.equal(await figure("size of gzip streams"), `${new Intl.NumberFormat("en", { maximumFractionDigits: 1 }).format((100 * packed) / plain)} %`);
    assert.equal(await figure("keeps the events"), "disk");
    // What the charts draw stands in their tables, and the newest of it in the overview.
    for (const title of ["Delivery latency", "Rates"]) {
      await panel(page, title).locator("summary").click();
      await panel(page, title).locator("details tbody tr").nth(1).waitFor(PATIENCE);
    }
    await until("the same p99 in both", async () => (await panel(page, "Delivery latency").locator("details tbody tr").first().locator("td").nth(3).innerText()) === (await figure("latency p99")));
    const latencies = await panel(page, "Delivery latency").locator("details tbody tr").first().locator("td").allInnerTexts();
    assert.match(latencies.join(" "), /^\d\d:\d\d:\d\d( \d+(\.\d)? ms){3}$/);
    // Times are relative, and exact on hover.
    const times = await page.locator("main time").evaluateAll((all) => all.map((it) => [it.textContent, it.getAttribute("title")]));
    assert(times.length > 5);
    for (const [text, exact] of times) assert(/ago|now|in 0/.test(text ?? "") && /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(exact ?? ""), `${text} ${exact}`);
    assert.deepEqual(wrong, []);
  } finally {
    for (const end of ends) end();
    await context.close();
    await hub.stop();
  }
});

/**
 * Moves the focus by the Tab key until it is on an element.
 *
 * @param {Page} page
 * @param {string} selector
 */
async function tabTo(page, selector) {
  for (let n = 0; n < 400; n += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector)) {
      assert.equal(await page.evaluate("getComputedStyle(document.activeElement).outlineStyle"), "solid", `the focus is seen on ${selector}`);
      return;
    }
  }
  throw new Error(`the Tab key does not reach ${selector}`);
}

test("a connection is closed, a job cancelled, a topic replayed from its middle, and an event published by keyboard alone", async () => {
  const { hub, readers } = await busyHub();
  const { page, wrong, context } = await open(browser, hub.url, "/console", { viewport: { width: 1280, height: 900 } });
  try {
    const { connections } = await hub.request("/events/connections");
    const bob = connections.find((/** @type {any} */ it) => it.user_id === "bob");
    await panel(page, "Connections").locator("tr", { hasText: "bob" }).waitFor(PATIENCE);
    await tabTo(page, `[aria-label="Close ${bob.connection_id}"]`);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Enter");
    await until("it is closed", () => readers[0].isEnded);
    await panel(page, "Jobs").locator("tr", { hasText: "Import customers" }).waitFor(PATIENCE);
    await tabTo(page, '[aria-label="Cancel import"]');
    await page.keyboard.press("Enter");
    await until("it is cancelled", async () => (await hub.request("/jobs/import")).status === "cancelled");

    const { events } = await hub.request("/events/poll?topic=news&after=earliest&wait=0&limit=100");
    assert.equal(events.length, 40);
    await tabTo(page, "input[name=topic]");
    if (!(await page.evaluate("document.activeElement.form.elements.after"))) await tabTo(page, "input[name=topic]");
    await page.keyboard.type("news");
    await tabTo(page, "input[name=after]");
    await page.keyboard.type(events[19].position);
    await page.keyboard.press("Enter");
    await panel(page, "Topics").getByText("20 events").waitFor(PATIENCE);
    const replayed = await panel(page, "Topics").locator("code").allInnerTexts();
    assert.deepEqual(replayed.map((text) => JSON.parse(text.slice(0, text.indexOf(',"text"')) + "}").title), Array.from({ length: 20 }, (_, n) => `Story ${n + 20}`));

    await page.reload();
    await panel(page, "Live events").locator("*").first().waitFor(PATIENCE);
    await until("it reads", async () => (await hub.streams()) === 3);
    await tabTo(page, "textarea[name=data]");
    await page.keyboard.press("Control+A");
    await page.keyboard.type('"typed by hand"');
    await tabTo(page, "button.primary");
    await page.keyboard.press("Enter");
    await panel(page, "Live events").locator("code", { hasText: "typed by hand" }).waitFor(PATIENCE);
    assert.deepEqual(wrong, []);
  } finally {
    for (const end of ends) end();
    await context.close();
    await hub.stop();
  }
});

test("full panels are readable for everybody, on a phone and a desktop, light and dark, and nothing moves where that is not wanted", async () => {
  const { hub } = await busyHub();
  try {
    for (const width of [360, 1280]) {
      for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
        const { page, context } = await open(browser, hub.url, "/console", { viewport: { width, height: 800 }, colorScheme, reducedMotion: "reduce", bypassCSP: true });
        for (const [title, row] of [["Connections", "cleo"], ["Jobs", "Report"], ["Named subscriptions", "mailer"], ["Topics", "news"], ["Memory by account", "window"]]) {
          await panel(page, title).locator("tr", { hasText: row }).first().waitFor(PATIENCE);
        }
        await panel(page, "Topics").getByRole("button", { name: "news", exact: true }).click();
        await panel(page, "Topics").locator("code").first().waitFor(PATIENCE);
        for (const title of ["Delivery latency", "Rates"]) {
          await panel(page, title).locator("canvas").waitFor(PATIENCE);
          await panel(page, title).locator("summary").click();
        }
        assert(Number(await page.evaluate("document.documentElement.scrollWidth")) <= width, `wider than ${width}`);
        await page.addScriptTag({ path: AXE });
        const { violations } = /** @type {any} */ (await page.evaluate("axe.run()"));
        const serious = violations.filter((/** @type {any} */ it) => ["serious", "critical"].includes(it.impact));
        assert.deepEqual(serious.map((/** @type {any} */ it) => `${it.id}: ${it.nodes.map((/** @type {any} */ node) => node.html).join("\n")}`), []);
        const moving = await page.evaluate(() =>
          [...document.querySelectorAll("*")].filter((it) => {
            const { animationName, animationDuration, transitionDuration } = getComputedStyle(it);
            const isLong = (/** @type {string} */ text) => text.split(",").some((one) => parseFloat(one) > 0.01);
            return (animationName !== "none" && isLong(animationDuration)) || isLong(transitionDuration);
          }).length,
        );
        assert.equal(moving, 0);
        await context.close();
      }
    }
  } finally {
    for (const end of ends) end();
    await hub.stop();
  }
});

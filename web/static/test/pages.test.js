// The hub's pages in a real browser, against the real hub, with the policy that it sends.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { launch } from "../../testing/browser.js";
import { Hub } from "../../testing/hub.js";
import { open as openPage } from "../../testing/page.js";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** @type {Hub} */
let hub;
/** @type {import("playwright-core").Browser} */
let browser;

before(async () => {
  hub = await Hub.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await hub?.stop();
});

/**
 * A page, and what went wrong on it.
 *
 * @param {string} path
 * @param {import("playwright-core").BrowserContextOptions} [options]
 * @param {Hub} [of]
 */
const open = (path, options, of = hub) => openPage(browser, of.url, path, options);

/**
 * @param {import("playwright-core").Page} page
 * @param {string} selector
 */
const text = (page, selector) => page.locator(selector).innerText();

/** What a hub says of itself; a machine that is busy with tests may make it warn. */
const HEALTH = /^(healthy|warning|critical)$/;

/**
 * Waits until an element says something.
 *
 * @param {import("playwright-core").Page | undefined} page
 * @param {string} selector
 * @param {string | RegExp} words
 */
const says = (page, selector, words) => page?.locator(selector).filter({ hasText: words }).waitFor();

test("the test page connects, shows what comes, publishes and checks JSON", async () => {
  const { page, wrong, context } = await open("/sse-test");
  assert.match(await text(page, "#hint"), /^curl .*\/events -d /);
  await page.fill("#topics", "room/*");
  await page.click("#open");
  await says(page, "#state", "Connected");
  await hub.publish({ topic: "other", data: "not asked for" });
  await hub.publish({ topic: "room/1", event_type: "chat", data: { words: "hello" } });
  await page.locator("#log li", { hasText: "hello" }).waitFor();
  assert.equal(await page.locator("#log li", { hasText: "not asked for" }).count(), 0);

  await page.locator("#log li", { hasText: "hello" }).locator("summary").click();
  assert.match(await page.locator("#log pre").last().innerText(), /^event: chat\nid: .+\ndata: {"words":"hello"}$/);

  await page.fill("#data", "{nonsense");
  await page.click("#publish button.primary");
  assert.match(await text(page, "#data-check"), /This is no JSON/);
  await page.fill("#data", '{"n": 7}');
  await page.fill("#topic", "room/2");
  await page.click("#publish button.primary");
  await page.locator("#log li", { hasText: '"n":7' }).waitFor();
  await says(page, "#published", "Published as");

  await page.click("#pause");
  await hub.publish({ topic: "room/1", event_type: "late", data: "held back" });
  await says(page, "#waiting", "1 held back");
  assert.equal(await page.locator("#log li", { hasText: "held back" }).count(), 0);
  await page.click("#pause");
  await page.locator("#log li", { hasText: "held back" }).waitFor();
  await page.selectOption("#filter-type", "late");
  assert.equal(await page.locator("#log li:visible").count(), 1);
  await page.selectOption("#filter-type", "");
  await page.fill("#filter-text", "HELLO");
  assert.equal(await page.locator("#log li:visible").count(), 1);
  await page.fill("#filter-text", "nobody said this");
  await page.getByText("No event of this log passes the filter.").waitFor();
  await page.getByRole("button", { name: "Show all" }).click();
  assert(await page.locator("#unmatched").isHidden());
  assert((await page.locator("#log li:visible").count()) > 1);

  await page.click("#close");
  await says(page, "#state", "Closed");
  assert.deepEqual(wrong, []);
  await context.close();
});

test("the log of the test page is bounded", async () => {
  const { page, wrong, context } = await open("/sse-test");
  await page.click("#open");
  await says(page, "#state", "Connected");
  for (let i = 0; i < 12; i += 1) {
    await hub.publish(Array.from({ length: 200 }, (_, n) => ({ topic: "flood", data: i * 200 + n })));
  }
  await says(page, "#count", "2,401");
  await page.locator("#log li").nth(999).waitFor();
  assert.equal(await page.locator("#log li").count(), 1000);
  assert.deepEqual(wrong, []);
  await context.close();
});

test("the console shows readers, jobs, topics and named subscriptions, closes one and cancels another", async () => {
  const abort = new AbortController();
  const reading = fetch(`${hub.url}/events?topic=watched&user_id=ann&durable=mailer`, { signal: abort.signal }).then(async (answer) => {
    for await (const chunk of /** @type {any} */ (answer.body)) if (!chunk) return;
  });
  await hub.post("/jobs", { job_id: "j1", title: "Import customers", total: 10 });
  await hub.post("/jobs/j1/progress", { progress: 4, message: "row 4" });
  await hub.publish({ topic: "watched", event_type: "seen", data: { what: "first" } });
  const { page, wrong, context } = await open("/console");
  const panel = (/** @type {string} */ title) => page.locator("section.panel", { has: page.getByRole("heading", { name: title, exact: true }) });
  await says(page, "#state", HEALTH);
  await panel("Connections").locator("tr", { hasText: "ann" }).waitFor();
  await panel("Jobs").locator("tr", { hasText: "Import customers" }).waitFor();
  await panel("Named subscriptions").locator("tr", { hasText: "mailer" }).waitFor();
  await panel("Topics").getByRole("button", { name: "watched" }).click();
  await panel("Topics").locator("code", { hasText: "first" }).waitFor();
  await panel("Rates").locator("canvas").waitFor();
  await panel("Rates").locator("summary").click();
  await panel("Rates").locator("tbody tr").first().waitFor({ timeout: 10_000 });

  await panel("Connections").getByRole("searchbox").fill("nobody has this");
  await panel("Connections").getByText("0 of").waitFor();
  await panel("Connections").getByRole("searchbox").fill("ann");
  const close = panel("Connections").locator("tr", { hasText: "ann" }).getByRole("button");
  await close.click();
  await close.click();
  await reading;
  await panel("Jobs").getByRole("button", { name: "Cancel j1" }).click();
  await panel("Jobs").getByText("cancelled", { exact: true }).waitFor();

  await panel("Publish").locator("textarea").fill("{");
  await panel("Publish").getByRole("button").click();
  await panel("Publish").getByText("This is no JSON").waitFor();
  await panel("Publish").locator("textarea").fill('"from the console"');
  await panel("Publish").getByRole("button").click();
  await panel("Live events").locator("code", { hasText: "from the console" }).waitFor();
  assert.deepEqual(wrong, []);
  await context.close();
});

test("where authentication is on, the console asks for a token, and shows nothing before", async () => {
  const guarded = await Hub.start("--anonymous", '{"subscribe": ["news"]}', "--jwt-secret", hub.file("secret", "k".repeat(48)));
  try {
    const { page, context } = await open("/console", {}, guarded);
    await page.locator("#sign-in").waitFor();
    assert.equal(await page.locator("section.panel .scroll tbody tr").count(), 0);
    await page.fill("#token", guarded.token("--jwt-secret", hub.file("secret", "k".repeat(48)), "--admin", "--subscribe", "*"));
    await page.click("#sign-in button");
    await says(page, "#state", HEALTH);
    assert(!page.url().includes("ey"), page.url());
    // The token stays in this tab: a reload does not ask again.
    await page.reload();
    await says(page, "#state", HEALTH);
    await context.close();
  } finally {
    await guarded.stop();
  }
});

test("very long values are shown in part, and the page stays quick", async () => {
  const { page, wrong, context } = await open("/sse-test");
  await page.click("#open");
  await says(page, "#state", "Connected");
  const large = "x".repeat(1_000_000);
  for (let n = 0; n < 45; n += 1) await hub.publish({ topic: "large", event_type: "t".repeat(256), data: `${n} ${large}` });
  const newest = page.locator("#log li", { hasText: "44 xxx" });
  await newest.waitFor();
  const kept = await page.locator("#log li").count();
  assert(kept > 20 && kept < 40, `${kept} are kept`);
  await newest.locator("summary").click();
  await newest.getByText("only the beginning is shown").waitFor();
  assert(Number(await page.evaluate("document.body.innerText.length")) < 200_000);
  const began = Date.now();
  await page.fill("#filter-text", "44 x");
  assert.equal(await page.locator("#log li:visible").count(), 1);
  assert(Date.now() - began < 3000, `${Date.now() - began} ms`);
  assert.deepEqual(wrong, []);
  await context.close();
});

test("a hub whose answers make no sense is told of, and the panels that understand it go on", async () => {
  const figures = { status: "constructor", active_connections: 7, max_connections: 9 };
  for (const answer of ["<html>", "null", "[]", '{"status": {"__proto__": 1}}', JSON.stringify(figures)]) {
    const context = await browser.newContext();
    for (const path of ["/console", "/sse-test"]) {
      const page = await context.newPage();
      /** @type {string[]} */
      const wrong = [];
      page.on("pageerror", (error) => wrong.push(String(error)));
      await page.route("**/events/stats", (route) => route.fulfill({ body: answer }));
      await page.route("**/events/connections?**", (route) => route.fulfill({ json: { connections: [{}], total_connections: -1, next: "again" } }));
      await page.route("**/jobs?**", (route) => route.fulfill({ json: { jobs: [null], counts: { total: 1 } } }));
      await page.goto(hub.url + path);
      if (path === "/console") await says(page, "#state", "The hub");
      await page.waitForTimeout(100);
      assert.deepEqual(wrong, [], `${path}: ${answer}`);
      assert.match(await text(page, "main"), /Publish/);
    }
    await context.close();
  }
});

test("a hundred thousand topics are counted in pieces, and only the newest are shown", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.route("**/events/poll?**", (route) => {
    const after = new URL(route.request().url()).searchParams.get("after");
    const from = after === "earliest" ? 0 : Number(after);
    const events = Array.from({ length: from < 100_000 ? 1000 : 0 }, (_, n) => ({ topic: `t${from + n}`, event: "x", data: "", id: "i", published_at: new Date().toISOString() }));
    return route.fulfill({ json: { events, position: String(from + events.length), gap: false } });
  });
  await page.goto(`${hub.url}/console`);
  await page.getByText("20,000 events counted so far").waitFor();
  await page.getByRole("button", { name: "t99999", exact: true }).waitFor();
  await page.getByText("counted so far").waitFor({ state: "detached" });
  assert(await page.locator("*").count() < 2000);
  await context.close();
});

test("a token can be given, left out again, and every table says what it shows", async () => {
  const { page, wrong, context } = await open("/console");
  await says(page, "#state", HEALTH);
  await page.locator("#sign-in-again").focus();
  await page.keyboard.press("Enter");
  await page.keyboard.type("secret");
  await page.keyboard.press("Enter");
  const stored = () => page.evaluate("JSON.stringify([{ ...sessionStorage }, { ...localStorage }, location.href, document.cookie])");
  assert.equal(await stored(), JSON.stringify([{ "sse-hub-token": "secret" }, {}, `${hub.url}/console`, ""]));
  await page.locator("#sign-in-again").click();
  assert.equal(await page.inputValue("#token"), "");
  await page.click("#sign-in-close");
  assert.match(String(await stored()), /secret/);
  await page.locator("#sign-in-again").click();
  await page.keyboard.press("Enter");
  assert.doesNotMatch(String(await stored()), /secret/);
  assert.equal(await page.locator("table:not(:has(caption)):not(.u-legend)").count(), 0);
  assert.deepEqual(wrong, []);
  await context.close();
});

// The console is looked at with its panels full, in work.test.js.
test("the test page can be used with a keyboard and a screen reader, on a phone and in the dark", async () => {
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    const { page, context } = await open("/sse-test", { viewport: { width: 360, height: 740 }, colorScheme, bypassCSP: true });
    await hub.publish({ topic: "a11y", data: "something" });
    await page.waitForTimeout(2500);
    assert(Number(await page.evaluate("document.documentElement.scrollWidth")) <= 360, "it is as wide as the phone");
    await page.addScriptTag({ path: AXE });
    const { violations } = /** @type {any} */ (await page.evaluate("axe.run()"));
    const serious = violations.filter((/** @type {any} */ it) => ["serious", "critical"].includes(it.impact));
    assert.deepEqual(serious.map((/** @type {any} */ it) => `${it.id}: ${it.nodes.map((/** @type {any} */ node) => node.html).join("\n")}`), []);
    await page.keyboard.press("Tab");
    const outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert.equal(outline, "solid", "the focus is seen");
    await context.close();
  }
});

test("the console stays small under a thousand events a second and ten thousand connections", async () => {
  const seconds = Number(process.env.CONSOLE_SECONDS ?? 8);
  const context = await browser.newContext();
  const page = await context.newPage();
  const connections = Array.from({ length: 10_000 }, (_, n) => ({ connection_id: `c${n}`, user_ip: "10.0.0.1", user_agent: "agent", user_id: `u${n}`, session_id: null, created_at: new Date().toISOString(), topics: ["a"], subscriptions: [], queue_size: 0, delivered_events: n }));
  await page.route("**/events/connections?**", (route) => {
    const query = new URL(route.request().url()).searchParams;
    const [from, limit] = [Number(query.get("after") ?? 0), Number(query.get("limit"))];
    const next = from + limit < connections.length ? String(from + limit) : undefined;
    return route.fulfill({ json: { total_connections: connections.length, connections: connections.slice(from, from + limit), next } });
  });
  await page.goto(`${hub.url}/console`);
  await page.getByText("100 of 10,000 shown").waitFor();
  const client = await context.newCDPSession(page);
  const heap = async () => {
    await client.send("HeapProfiler.collectGarbage");
    const { usedSize } = await client.send("Runtime.getHeapUsage");
    return usedSize;
  };
  const nodes = () => page.locator("*").count();
  const flood = async (/** @type {number} */ until) => {
    for (let n = 0; Date.now() < until; n += 1) {
      const pause = new Promise((resolve) => setTimeout(resolve, 100));
      await hub.publish(Array.from({ length: 100 }, (_, i) => ({ topic: `t${i}`, event_type: "tick", data: { n, i, text: "x".repeat(100) } })));
      await pause;
    }
  };
  await flood(Date.now() + 3000);
  const [before, drawn] = [await heap(), await nodes()];
  await flood(Date.now() + seconds * 1000);
  const [after, redrawn] = [await heap(), await nodes()];
  console.log(`# heap ${before} to ${after} bytes, ${drawn} to ${redrawn} elements`);
  assert(after < before + (8 << 20), `${before} to ${after}`);
  assert(redrawn < 4000, `${drawn} to ${redrawn}`);
  await page.locator("section", { hasText: "Connections" }).getByRole("searchbox").first().fill("u9999");
  await page.getByText("1 of 10,000 found").waitFor();
  await context.close();
});

// The elements on a page of an application's own, in a real browser: the hub serves them, and the page is from another origin.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { launch } from "../../testing/browser.js";
import { Hub } from "../../testing/hub.js";
import { examples } from "../../testing/readme.js";

/** @type {Hub} */
let hub;
/** @type {import("playwright-core").Browser} */
let browser;
/** @type {import("node:http").Server} */
let site;
let origin = "";
/** What the page's body is. */
let body = "";

before(async () => {
  site = createServer((_, answer) => {
    answer.writeHead(200, { "Content-Type": "text/html" });
    answer.end(`<!doctype html><html lang="en"><title>app</title>${body}</html>`);
  });
  await new Promise((resolve) => site.listen(0, "127.0.0.1", () => resolve(null)));
  const address = /** @type {import("node:net").AddressInfo} */ (site.address());
  origin = `http://127.0.0.1:${address.port}`;
  hub = await Hub.start("--allowed-origin", origin);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  site?.close();
  await hub?.stop();
});

/** @param {string} html */
async function open(html) {
  body = html;
  const page = await (await browser.newContext()).newPage();
  await page.goto(origin);
  return page;
}

const load = () => `<script type="module" src="${hub.url}/elements/index.js"></script>`;

test("the dot follows the connection, and says so to a screen reader", async () => {
  const page = await open(`${load()}<sse-status src="${hub.url}/events?topic=a"></sse-status>`);
  await page.locator("sse-status[data-state=open][title=Connected]").waitFor();
  assert.equal(await page.locator("sse-status [role=status]").textContent(), "Connected");
  await hub.kill();
  await page.locator("sse-status[data-state=waiting]").waitFor();
  await hub.start();
  await page.locator("sse-status[data-state=open]").waitFor();
  await page.locator("sse-status").evaluate((it) => it.remove());
  await page.waitForTimeout(300);
  assert.equal(await hub.streams(), 0, "what the element opened ends with it");
  await page.context().close();
});

test("the bar shows a job by its stream, with its lesson, and goes when it is done", async () => {
  await hub.post("/jobs", { job_id: "s1", title: "Summary", total: 4 });
  const page = await open(`${load()}<sse-progress job="s1" src="${hub.url}/events?topic=job/s1"></sse-progress>`);
  await page.locator("sse-progress").getByText("Summary").waitFor();
  await hub.post("/jobs/s1/progress", { progress: 1, message: "<b>reading</b>", current_item: "chapter 1", educational_content: { tip: "Long texts are read in parts." } });
  const bar = page.locator("sse-progress").getByRole("progressbar");
  await page.locator("sse-progress").getByText("<b>reading</b>").waitFor();
  assert.equal(await bar.getAttribute("aria-valuenow"), "25");
  await page.locator("sse-progress").getByText("chapter 1").waitFor();
  await page.locator("sse-progress").getByText("Long texts are read in parts.").waitFor();
  await hub.post("/jobs/s1/complete", { message: "Ready" });
  await page.locator("sse-progress").getByText("Ready").waitFor();
  assert.equal(await bar.getAttribute("aria-valuenow"), "100");
  await page.locator("sse-progress").waitFor({ state: "hidden" });
  await page.context().close();
});

test("the bar works by polling alone, tells an error, and gives up in time", async () => {
  await hub.post("/jobs", { job_id: "p1", title: "Import", total: 10 });
  const page = await open(`${load()}<sse-progress id="a" job="p1" poll="0.2" base="${hub.url}"></sse-progress><sse-progress id="b" job="nothing" poll="0.2" timeout="1" base="${hub.url}"></sse-progress>`);
  await hub.post("/jobs/p1/progress", { progress: 5, message: "half" });
  await page.locator("#a").getByText("50 %").waitFor();
  await hub.post("/jobs/p1/error", { error: "disk full" });
  await page.locator("#a[data-state=error]").getByText("disk full").waitFor();
  await page.locator("#b").getByText("takes longer than expected").waitFor();
  await page.context().close();
});

test("toasts go by themselves, wait for whoever reads them, and are few", async () => {
  const page = await open(`${load()}<sse-toasts duration="700" events="system,order_complete,error" src="${hub.url}/events?topic=public"></sse-toasts>`);
  await page.waitForFunction(() => /** @type {any} */ (document.querySelector("sse-toasts")).connection?.isConnected());
  await hub.publish({ event_type: "system", data: { message: "<i>Back soon</i>", type: "warning" } });
  const toast = page.locator("sse-toasts div.warning");
  await toast.getByText("<i>Back soon</i>").waitFor();
  assert.equal(await toast.getAttribute("role"), "status");
  assert.equal(await toast.getByRole("img", { name: "warning" }).textContent(), "!", "its kind is more than a colour");
  await toast.hover();
  await page.waitForTimeout(1200);
  assert.equal(await toast.count(), 1, "somebody points at it");
  await page.mouse.move(0, 0);
  await toast.waitFor({ state: "detached" });
  await hub.publish({ event_type: "error", data: { error: "It failed" } });
  await page.locator("sse-toasts div.error[role=alert]").getByText("It failed").waitFor();
  await page.locator("sse-toasts").getByRole("button", { name: "Close" }).click();
  assert.equal(await page.locator("sse-toasts div").count(), 0);
  await hub.publish(Array.from({ length: 9 }, (_, n) => ({ event_type: "order_complete", data: `order ${n}` })));
  await page.locator("sse-toasts div.success").getByText("order 8").waitFor();
  assert.equal(await page.locator("sse-toasts div").count(), 5);
  await page.context().close();
});

test("the page of the README works as it stands there", async () => {
  const readme = new URL("../README.md", import.meta.url);
  const [whole] = examples(readme, "html");
  const [translated] = examples(readme, "js");
  const page = await (await browser.newContext()).newPage();
  /** @type {string[]} */
  const said = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(`uncaught: ${error}`));
  const html = whole?.code.replace("</head>", `<script type="module">${translated?.code}</script></head>`);
  await page.route("**/page", (route) => route.fulfill({ contentType: "text/html", body: html }));
  await page.goto(`${hub.url}/page`);
  await page.locator("sse-status[data-state=open][title=Verbunden]").waitFor();
  const requests = examples(readme, "sh").flatMap(({ code }) => [...code.matchAll(/localhost:8080(\S+) -d '(.*)'/g)]);
  assert.equal(requests.length, 4);
  for (const [, path = "", body = ""] of requests.slice(0, 3)) await hub.post(path, JSON.parse(body));
  await page.locator("sse-progress").getByText("25 %").waitFor();
  await page.locator("sse-progress").getByText("reading").waitFor();
  await page.locator("sse-toasts div.warning").getByText("Back soon").waitFor();
  const [, path = "", body = ""] = requests[3] ?? [];
  await hub.post(path, JSON.parse(body));
  await page.locator("sse-toasts div.success").getByText("40 addresses").waitFor();
  const fill = await page.locator("sse-progress i").evaluate((it) => getComputedStyle(it).backgroundColor);
  assert.equal(fill, "rgb(102, 51, 153)");
  assert.deepEqual(said, ["done: completed"]);
  assert.equal(await page.locator("sse-progress").isVisible(), true);
  await page.context().close();
});

/** The part of a page that its authors have, word for word. */
const PAGE = `<script src="/static/js/sse/enhanced_sse_client.js"></script>
<script src="https://cdnjs.cloudflare.com/ajax/libs/pako/2.1.0/pako.min.js"></script>

<script>
// Initialize enhanced SSE client
const sseClient = new EnhancedSSEClient('/sse', {
    maxRetries: 10,
    baseDelay: 1000,
    maxDelay: 30000
});

// Your existing event handlers work unchanged
sseClient.on('job_progress', (data) => {
    updateProgress(data.job_id, data.progress);
});
</script>`;

for (const pako of ["loaded", "blocked", "absent"]) {
  test(`pages of the enhanced client work unchanged on the hub's origin, with their script for inflating ${pako}`, async () => {
    const large = "x".repeat(5000);
    const page = await (await browser.newContext()).newPage();
    /** @type {string[]} */
    const wrong = [];
    page.on("pageerror", (error) => wrong.push(String(error)));
    await page.route("**/pako.min.js", (route) =>
      pako === "loaded" ? route.fulfill({ contentType: "text/javascript", body: "globalThis.pako = { inflate() { throw new Error('not needed'); } }" }) : route.abort(),
    );
    const theirs = pako === "absent" ? PAGE.replace(/<script src="https:.*\n/, "") : PAGE;
    assert.equal(theirs.includes("cdnjs"), pako !== "absent");
    const body = `<!doctype html><script>const seen = [], updateProgress = (...all) => seen.push(all);</script>${theirs}
      <script>sseClient.on("large", (data) => seen.push(data.text.length));</script>`;
    await page.route("**/page", (route) => route.fulfill({ contentType: "text/html", body }));
    await page.goto(`${hub.url}/page`);
    await page.waitForFunction("sseClient.isConnected()");
    assert.equal(await page.evaluate("typeof pako"), pako === "loaded" ? "object" : "undefined");
    const job = `e${Math.random()}`;
    await hub.post("/jobs", { job_id: job });
    await hub.post(`/jobs/${job}/progress`, { progress: 30 });
    await hub.publish({ event_type: "large", data: { text: large } });
    await page.waitForFunction("seen.length === 2");
    assert.deepEqual(await page.evaluate("seen"), [[job, 30], 5000]);
    await hub.kill();
    await page.waitForFunction("sseClient.getStatus() === 'reconnecting'");
    await hub.start();
    await page.waitForFunction("sseClient.getStatus() === 'connected'");
    await hub.post(`/jobs/${job}/progress`, { progress: 40 });
    await page.waitForFunction("seen.length === 3");
    await page.evaluate("sseClient.disconnect()");
    assert.deepEqual([await page.evaluate("sseClient.getStatus()"), wrong], ["disconnected", []]);
    await page.context().close();
  });
}

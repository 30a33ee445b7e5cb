// The client, the elements and the pages in Firefox: what is different there is the engine, so each is only met once.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launchFirefox } from "../../testing/firefox.js";
import { Hub } from "../../testing/hub.js";
import { Pages } from "../../testing/pages.js";
import { ReactPages } from "../../testing/react.js";

/** @type {Hub} */
let hub;
/** @type {import("puppeteer-core").Browser} */
let browser;

before(async () => {
  [hub, browser] = await Promise.all([Hub.start("--compression-threshold", "1KiB"), launchFirefox()]);
});
after(async () => {
  await browser?.close();
  await hub?.stop();
});

/**
 * A page of the hub, and what went wrong on it.
 *
 * @param {string} path
 * @param {string} [origin]
 */
async function open(path, origin = hub.url) {
  const page = await browser.newPage();
  /** @type {string[]} */
  const wrong = [];
  page.on("console", (message) => ["error", "warn"].includes(message.type()) && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(String(error)));
  await page.goto(origin + path);
  return { page, wrong };
}

/**
 * Waits until an expression holds in the page.
 *
 * @param {import("puppeteer-core").Page} page
 * @param {string} expression
 */
async function until(page, expression) {
  const end = Date.now() + 15_000;
  while (!(await page.evaluate(expression))) {
    if (Date.now() > end) throw new Error(`never: ${expression}; ${await page.evaluate("JSON.stringify(window.got ?? document.body.innerText.slice(0, 500))")}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Reads a topic from a page that has nothing else. */
const READ = `(async () => {
  const { SSEConnection } = await import("/client/index.js");
  window.got = [];
  window.connection = new SSEConnection("/events?topic=fox&compression=gzip", { baseDelay: 100 });
  connection.onevent = ({ type, data }) => type === "ping" || type === "connected" || got.push([type, data.length > 100 ? data.length : data]);
  await connection.connect();
})()`;

test("in Firefox the client reads, unpacks, resumes, tells a gap and is iterated", { timeout: 60_000 }, async () => {
  const { page, wrong } = await open("/livez");
  await page.evaluate(READ);
  await hub.publish({ topic: "fox", event_type: "tick", data: 1 });
  await hub.publish({ topic: "fox", event_type: "large", data: "x".repeat(5000) });
  await until(page, "got.length === 2");
  await hub.kill();
  await until(page, "connection.state === 'waiting'");
  await hub.start();
  await hub.publish({ topic: "fox", event_type: "tick", data: 2 });
  await until(page, "got.length === 3 && connection.isConnected()");
  assert.deepEqual(await page.evaluate("got"), [["tick", "1"], ["large", 5000], ["tick", "2"]]);

  await page.evaluate("connection.close()");
  const state = await page.evaluate(`(async () => {
    const { SSEConnection } = await import("/client/index.js");
    const other = new SSEConnection("/events?topic=fox", { lastEventId: "0000000000000001-7" });
    const seen = [];
    setTimeout(() => fetch("/events", { method: "POST", body: JSON.stringify({ topic: "fox", event_type: "tick", data: 3 }) }), 200);
    for await (const { type, data } of other) {
      if (type !== "connected") seen.push(type === "gap" ? [type, JSON.parse(data).reason] : [type, data]);
      if (type === "tick") break;
    }
    other.close();
    return [seen, other.state];
  })()`);
  assert.deepEqual(state, [[["gap", "foreign_epoch"], ["tick", "3"]], "closed"]);
  // What the browser says of the hub's being away is no error of the client's.
  assert.deepEqual(wrong.filter((text) => !/NetworkError|can’t establish|was interrupted|Cross-Origin/.test(text)), []);
  await page.close();
});

test("in Firefox the elements show a connection, a job and a message", { timeout: 60_000 }, async () => {
  const { page, wrong } = await open("/livez");
  await hub.post("/jobs", { job_id: "fox", title: "Import", total: 4 });
  await page.evaluate(`(async () => {
    await import("/elements/index.js");
    document.body.innerHTML = '<sse-status src="/events?topic=a"></sse-status><sse-progress keep src="/events?topic=job/fox" job="fox"></sse-progress><sse-toasts src="/events?topic=news" events="system"></sse-toasts>';
  })()`);
  await until(page, "document.querySelector('sse-status').dataset.state === 'open'");
  await until(page, "document.querySelector('sse-toasts').connection.isConnected()");
  await hub.post("/jobs/fox/progress", { progress: 1, message: "reading" });
  await hub.publish({ topic: "news", event_type: "system", data: { message: "Back soon" } });
  await until(page, "document.querySelector('sse-progress').shadowRoot.textContent.includes('25 %')");
  await until(page, "document.querySelector('sse-toasts').shadowRoot.textContent.includes('Back soon')");
  assert.deepEqual(wrong, []);
  await page.close();
});

test("in Firefox the test page and the console work", { timeout: 60_000 }, async () => {
  const test = await open("/sse-test");
  await test.page.click("#open");
  await until(test.page, "document.getElementById('state').textContent === 'Connected'");
  await test.page.click("#publish button.primary");
  await until(test.page, "document.getElementById('log').textContent.includes('Test notification')");
  const console_ = await open("/console");
  await until(console_.page, "/^(healthy|warning|critical)$/.test(document.getElementById('state').textContent)");
  await until(console_.page, "document.querySelectorAll('canvas').length === 2");
  await until(console_.page, "document.getElementById('panels').textContent.includes('Gecko') || document.getElementById('panels').textContent.includes('Mozilla')");
  await console_.page.setViewport({ width: 360, height: 740 });
  await until(console_.page, "document.documentElement.scrollWidth <= 360");
  assert.deepEqual([test.wrong, console_.wrong], [[], []]);
});

test("in Firefox many tabs have one connection, and another tab takes it over", { timeout: 60_000 }, async () => {
  const files = await Pages.start();
  const hub = await Hub.start("--allowed-origin", files.url);
  const pages = [];
  for (let n = 0; n < 4; n += 1) {
    const { page, wrong } = await open("/", files.url);
    await page.evaluate(`(async () => {
      const { SharedConnection } = await import("/client/src/shared.js");
      window.got = [];
      window.connection = new SharedConnection("${hub.url}/events?topic=tabs", { baseDelay: 100 });
      connection.on("tick", (data) => got.push(data));
      await connection.connect();
    })()`);
    pages.push({ page, wrong });
  }
  assert.equal(await hub.streams(), 1);
  const leads = await Promise.all(pages.map(({ page }) => page.evaluate("connection.isLeading")));
  assert.deepEqual(leads.filter(Boolean).length, 1);
  let n = 0;
  const publish = () => hub.publish({ topic: "tabs", event_type: "tick", data: (n += 1) });
  const numbers = () => JSON.stringify(Array.from({ length: n }, (_, i) => i + 1));
  await publish();
  for (const { page } of pages) await until(page, `JSON.stringify(got) === "${numbers()}"`);
  // Its leader leaves for good,
  await pages.splice(leads.indexOf(true), 1)[0].page.close();
  await publish();
  for (const { page } of pages) await until(page, `JSON.stringify(got) === "${numbers()}"`);
  // and the next one goes to another page. Firefox keeps no page that has an open stream: it loads anew when its user goes back.
  const left = await Promise.all(pages.map(({ page }) => page.evaluate("connection.isLeading")));
  const [leader] = pages.splice(left.indexOf(true), 1);
  await leader.page.goto("about:blank");
  await publish();
  for (const { page } of pages) await until(page, `JSON.stringify(got) === "${numbers()}"`);
  await leader.page.close();
  assert.equal(await hub.streams(), 1);
  assert.deepEqual(pages.flatMap(({ wrong }) => wrong), []);
  for (const { page } of pages) await page.close();
  files.stop();
  await hub.stop();
});

test("in Firefox the React hook shows a stream and closes it", { timeout: 60_000 }, async () => {
  const react = new ReactPages(19);
  await react.start();
  const open = await Hub.start("--allowed-origin", react.url);
  try {
    const page = await browser.newPage();
    /** @type {string[]} */
    const wrong = [];
    page.on("pageerror", (error) => wrong.push(String(error)));
    await page.goto(react.url);
    await until(page, "Boolean(window.lab)");
    await page.evaluate(`(() => {
      const { React, h, render, useSSE } = lab;
      const View = () => h("p", null, JSON.stringify([useSSE("${open.url}/events?topic=fox").isConnected, useSSE("${open.url}/events?topic=fox", { event: "tick" }).data]));
      window.root = render(h(React.StrictMode, null, h(View)));
    })()`);
    await until(page, "document.body.innerText.includes('[true,null]')");
    assert.equal(await open.streams(), 1);
    await open.publish({ topic: "fox", event_type: "tick", data: { n: 7 } });
    await until(page, `document.body.innerText.includes('[true,{"n":7}]')`);
    await page.evaluate("root.unmount()");
    const end = Date.now() + 15_000;
    while ((await open.streams()) > 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(await open.streams(), 0);
    assert.deepEqual(wrong, []);
    await page.close();
  } finally {
    react.stop();
    await open.stop();
  }
});

// A model's answer in several tabs, whatever happens to them and to the hub.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch } from "../../web/testing/browser.js";
import { Example } from "../testing/example.js";

const ALL = 'The answer is "forty-two", naïve 世界 🌍.\n'.repeat(45);
const TOKENS = 8 * 45;
const MODEL = "node model.mjs";

/** @typedef {import("../../web/testing/browser.js").Page} Page */
/** @type {import("../../web/testing/browser.js").Browser} */
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/**
 * @param {string} hubFlags
 * @param {(tabs: {example: Example, ask: () => Promise<Page>, open: (url: string) => Promise<Page>}) => Promise<void>} body
 */
async function withTabs(hubFlags, body) {
  const example = await Example.start("llm", { programs: 3, hubFlags });
  const context = await browser.newContext();
  try {
    /** @type {Error[]} */
    const errors = [];
    context.on("weberror", (error) => errors.push(error.error()));
    const open = async (/** @type {string} */ url) => {
      const page = await context.newPage();
      await page.goto(url);
      return page;
    };
    const ask = async () => {
      const page = await open(example.url);
      await page.getByRole("button", { name: "Ask" }).click();
      await shows(page, 100);
      // Nothing depends on how fast the machine opens tabs.
      example.pause(MODEL);
      return page;
    };
    await body({ example, ask, open });
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
    await example.stop();
  }
}

/**
 * Waits for so much text, before its end.
 *
 * @param {Page} page
 * @param {number} length
 */
async function shows(page, length) {
  await page.waitForFunction((length) => (document.getElementById("text")?.textContent ?? "").length >= length, length);
  assert.equal(await page.getByRole("status").textContent(), "Writing …");
}

/**
 * @param {Page} page
 * @param {string} how
 */
async function textAtItsEnd(page, how) {
  await page.getByRole("status").getByText(how).waitFor();
  return page.locator("#text").textContent();
}

test("a tab from the start, one that comes late, one loaded again and one afterwards show the same whole text", () =>
  withTabs("", async ({ example, ask, open }) => {
    const first = await ask();
    const reloaded = await open(first.url());
    await shows(reloaded, 100);
    const late = await open(first.url());
    await shows(late, 100);
    await reloaded.reload();
    example.resume(MODEL);
    for (const page of [first, late, reloaded]) assert.equal(await textAtItsEnd(page, "Complete."), ALL);
    assert.equal(await textAtItsEnd(await open(first.url()), "Complete."), ALL);

    const id = new URL(first.url()).hash.slice(1);
    const { events } = await (await fetch(`${example.hubUrl}/events/poll?after=earliest&topic=answer/${id}&limit=1000`)).json();
    assert.ok(events.length < TOKENS * 0.75, `${events.length} events`);
    assert.equal((await (await fetch(`${example.hubUrl}/jobs/${id}`)).json()).status, "completed");
    // One request to the model, for all of them.
    assert.deepEqual(await (await fetch(example.modelUrl)).json(), { running: 0, finished: 1, aborted: 0 });
  }));

test("stop in one tab ends it in all, with the same text, and the request to the model", () =>
  withTabs("", async ({ example, ask, open }) => {
    const first = await ask();
    const second = await open(first.url());
    const third = await open(first.url());
    for (const page of [second, third]) await shows(page, 100);
    await third.reload();
    example.resume(MODEL);
    await second.getByRole("button", { name: "Stop" }).click();

    const text = (await textAtItsEnd(first, "Stopped.")) ?? "";
    assert.ok(ALL.startsWith(text) && text.length < ALL.length, text);
    for (const page of [second, third, await open(first.url())]) assert.equal(await textAtItsEnd(page, "Stopped."), text);
    const id = new URL(first.url()).hash.slice(1);
    assert.equal((await (await fetch(`${example.hubUrl}/jobs/${id}`)).json()).status, "cancelled");
    const until = Date.now() + 5000;
    for (let counts; counts?.aborted !== 1; counts = await (await fetch(example.modelUrl)).json()) {
      assert.ok(Date.now() < until, `the model still writes: ${JSON.stringify(counts)}`);
    }
  }));

test("a hub that crashes in the middle costs no token and doubles none", () =>
  withTabs("", async ({ example, ask, open }) => {
    const first = await ask();
    const second = await open(first.url());
    await shows(second, 100);
    example.resume(MODEL);
    await example.restartHub();
    for (const page of [first, second, await open(first.url())]) assert.equal(await textAtItsEnd(page, "Complete."), ALL);
  }));

test("what the hub no longer keeps comes from the application", () =>
  withTabs("--retain 'answer/*;keep-latest=3'", async ({ example, ask, open }) => {
    const first = await ask();
    const asked = first.context().waitForEvent("request", (request) => request.url().includes("/answers/"));
    const late = await open(first.url());
    await shows(late, 100);
    await asked;
    example.resume(MODEL);
    for (const page of [first, late, await open(first.url())]) assert.equal(await textAtItsEnd(page, "Complete."), ALL);
  }));

test("a model that breaks off is told to all, with what there was", () =>
  withTabs("", async ({ example, ask, open }) => {
    const first = await ask();
    await example.kill(MODEL);
    const text = (await textAtItsEnd(first, "The model failed.")) ?? "";
    assert.ok(ALL.startsWith(text) && text.length >= 100, text);
    assert.equal(await textAtItsEnd(await open(first.url()), "The model failed."), text);
  }));

// Whatever an event, a job or a client says is text on the pages: all of it is there, and nothing of it runs.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch } from "../../testing/browser.js";
import { Hub } from "../../testing/hub.js";
import { open, panel } from "../../testing/page.js";
import { PAYLOADS } from "./payloads.js";

/** So many at a time: the pages show a hundred rows of most tables. */
const AT_ONCE = 50;
/** A busy machine needs this at times. */
const PATIENCE = { timeout: 60_000 };

/** @type {import("playwright-core").Browser} */
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/**
 * A text within JSON.
 *
 * @param {string} text
 */
const inJson = (text) => JSON.stringify(text).slice(1, -1);

/**
 * Every text and every title of a part of a page.
 *
 * @param {import("playwright-core").Locator} part
 */
const texts = (part) =>
  part.evaluate((root) => {
    const found = [];
    for (const it of root.querySelectorAll("*")) {
      if (it.getAttribute("title")) found.push(it.getAttribute("title") ?? "");
      if ([...it.childNodes].some((node) => node.nodeType === Node.TEXT_NODE)) found.push(it.textContent ?? "");
    }
    return found;
  });

/**
 * @param {string} where
 * @param {string[]} found
 * @param {string[]} wanted
 * @param {(text: string, payload: string) => boolean} [fits]
 */
function areThere(where, found, wanted, fits = (text, payload) => text === payload) {
  const missing = wanted.filter((payload) => !found.some((text) => fits(text, payload)));
  assert.deepEqual(missing, [], `not in ${where}`);
}

/** @param {string} text @param {string} payload */
const includes = (text, payload) => text.includes(payload);

/** @param {Hub} hub @param {string} path @param {unknown} body */
async function post(hub, path, body) {
  const answer = await fetch(hub.url + path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  return { status: answer.status, text: await answer.text() };
}

test("there are two hundred payloads", () => {
  assert.equal(new Set(PAYLOADS).size, PAYLOADS.length);
  assert(PAYLOADS.length >= 200, `${PAYLOADS.length}`);
});

for (let from = 0; from < PAYLOADS.length; from += AT_ONCE) {
  const payloads = PAYLOADS.slice(from, from + AT_ONCE);
  test(`nothing that is said to the hub runs on the pages: payloads ${from + 1} to ${from + payloads.length}`, async () => {
    const hub = await Hub.start();
    const abort = new AbortController();
    try {
      const agent = (/** @type {string} */ payload) => payload.replace(/[^\x20-\x7e]/g, "?");
      // Their own titles and topics, so that none is found in another field's place.
      const streams = await Promise.all(
        payloads.map((payload) => {
          const query = new URLSearchParams({ topic_exact: `of a stream ${payload}`, user_id: `user ${payload}`, session_id: `session ${payload}`, durable: payload });
          return fetch(`${hub.url}/events?${query}`, { headers: { "User-Agent": agent(payload) }, signal: abort.signal });
        }),
      );
      assert.deepEqual(streams.map(({ status }) => status), payloads.map(() => 200));

      const log = await open(browser, hub.url, "/sse-test");
      const console_ = await open(browser, hub.url, "/console");
      await log.page.click("#open");
      await log.page.locator("#state", { hasText: "Connected" }).waitFor(PATIENCE);
      await console_.page.locator("#status[title], #state:not(:text('Starting'))").first().waitFor(PATIENCE);
      // Both pages read before anything is published.
      while ((await hub.streams()) < payloads.length + 2) await new Promise((resolve) => setTimeout(resolve, 100));

      for (const [n, payload] of payloads.entries()) {
        const answers = [
          await post(hub, "/events", { topic: [payload, "public"], id: payload, event_type: `type ${payload}`, data: payload }),
          await post(hub, "/events", { topic: [`named ${payload}`, "public"], data: { [payload]: [payload] } }),
          await post(hub, "/jobs", { job_id: `j${n}`, title: payload, topic: "public", total: 10 }),
          await post(hub, `/jobs/j${n}/progress`, { progress: 1, message: `says ${payload}`, step: `step ${payload}`, [`about ${payload}`.slice(0, 60)]: `metadata ${payload}` }),
          await post(hub, "/jobs", { job_id: `failed ${n}`, topic: "public" }),
          await post(hub, `/jobs/${encodeURIComponent(`failed ${n}`)}/error`, { error: `failed ${payload}` }),
        ];
        assert.deepEqual(answers.map(({ status, text }) => (status < 300 ? status : text)), [200, 200, 201, 200, 201, 200], payload);
      }
      await post(hub, "/events", { data: "the last" });

      // The test page: each event is opened.
      await log.page.locator("#log li", { hasText: "the last" }).waitFor(PATIENCE);
      for (const summary of await log.page.locator("#log summary").all()) await summary.evaluate((it) => /** @type {HTMLElement} */ (it).click());
      await log.page.waitForFunction(() => [...document.querySelectorAll("#log details")].every((it) => it.childElementCount > 1), null, PATIENCE);
      const read = await texts(log.page.locator("#log"));
      areThere("the log", read, payloads);
      areThere("the log", read, payloads.map((payload) => `type ${payload}`));
      areThere("the frames", read, payloads.map((payload) => `id: ${payload}\ndata: ${payload}`), includes);
      for (const field of ["says", "step", "metadata", "failed"]) areThere(`the log, ${field}`, read, payloads.map((payload) => inJson(`${field} ${payload}`)), includes);
      areThere("the log, an object", read, payloads.map((payload) => JSON.stringify({ [payload]: [payload] })), includes);
      areThere("the types to choose", await texts(log.page.locator("#filter-type")), payloads.map((payload) => `type ${payload}`));

      // The console: each panel, and the replay of a topic.
      const shown = async (/** @type {string} */ title, /** @type {string} */ last) => {
        await panel(console_.page, title).getByText(last).first().waitFor(PATIENCE);
        return texts(panel(console_.page, title));
      };
      const last = payloads.at(-1) ?? "";
      const connections = await shown("Connections", `of a stream ${last}`);
      areThere("connections, agents", connections, payloads.map(agent));
      areThere("connections, users and sessions", connections, payloads.map((payload) => `user ${payload}, session ${payload}`));
      areThere("connections, topics", connections, payloads.map((payload) => `of a stream ${payload}`));
      const jobs = await shown("Jobs", `failed ${last}`);
      areThere("jobs, titles", jobs, payloads);
      areThere("jobs, messages and errors", jobs, payloads.flatMap((payload) => [`says ${payload}`, `failed ${payload}`]));
      const subscriptions = await shown("Named subscriptions", `user ${last}`);
      areThere("subscriptions", subscriptions, payloads.flatMap((payload) => [payload, `user ${payload}`]));
      const topics = panel(console_.page, "Topics");
      await topics.getByText("Look again").click();
      await shown("Live events", "the last");
      // A replay shows with the same code as the live events do; some are enough.
      for (const payload of payloads.filter((_, n) => n % 10 === 0)) {
        await topics.locator("[name=topic]").fill(payload);
        await topics.getByRole("button", { name: "Replay" }).click();
        await topics.locator(`caption:text-is(${JSON.stringify(`Events of ${payload}`)})`).waitFor({ ...PATIENCE, state: "attached" });
        const replayed = await texts(topics.locator(".scroll").last());
        areThere("the replay", replayed, [payload, `type ${payload}`]);
        assert.equal(await topics.locator(".scroll").last().locator("code").getAttribute("title"), payload);
      }
      const kept = await texts(topics);
      areThere("topics", kept, payloads.slice(-20).map((payload) => `named ${payload}`));
      areThere("live events", await texts(panel(console_.page, "Live events")), payloads.slice(-10).flatMap((payload) => [payload, `type ${payload}`]));

      for (const { page, wrong, context } of [log, console_]) {
        assert.equal(await page.evaluate("window.ran"), undefined);
        assert.equal(await page.locator("main :is(script, iframe, img, svg, object, embed, base, meta, link, style)").count(), 0);
        assert.deepEqual(wrong, []);
        await context.close();
      }
    } finally {
      abort.abort();
      await hub.stop();
    }
  });
}

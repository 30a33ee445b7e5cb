// Tests of components: each with the oldest React and the newest, in Chromium, against the real hub.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { launch } from "./browser.js";
import { Hub } from "./hub.js";
import { ReactPages } from "./react.js";

/**
 * @typedef {object} Given
 * @property {Awaited<ReturnType<ReactPages["open"]>>} page
 * @property {() => ReturnType<ReactPages["open"]>} tab Opens another page in the same browser.
 * @property {Hub} hub
 * @property {string} topic One of the test's own.
 * @property {string} url Its stream.
 * @property {(data: unknown, event?: string) => Promise<unknown>} publish
 * @property {() => Promise<number>} opened How many streams have been opened since the test began.
 * @property {(expected: number) => Promise<void>} streams Waits until so many are open.
 */

/** @param {(it: (name: string, body: (given: Given) => Promise<void>) => void) => void} suite */
export function inReacts(suite) {
  for (const version of /** @type {const} */ ([18, 19])) {
    describe(`React ${version}`, () => {
      const pages = new ReactPages(version);
      /** @type {import("playwright-core").Browser} */
      let browser;
      /** @type {Hub} */
      let hub;
      before(async () => {
        browser = await launch();
        await pages.start();
        hub = await Hub.start("--allowed-origin", pages.url, "--retry", "100ms");
      });
      after(async () => {
        await browser.close();
        pages.stop();
        await hub.stop();
      });

      const streams = async (/** @type {number} */ expected) => {
        const until = Date.now() + 10_000;
        while ((await hub.streams()) !== expected) {
          if (Date.now() > until) assert.fail(`there are ${await hub.streams()} streams, and not ${expected}`);
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      };
      const accepted = async () => (await hub.request("/events/stats")).accepted_connections;

      suite((name, body) =>
        test(name, { timeout: 60_000 }, async () => {
          const context = await browser.newContext();
          const tab = () => pages.open(context);
          const page = await tab();
          const topic = name.replaceAll(" ", "-");
          const url = `${hub.url}/events?topic_exact=${encodeURIComponent(topic)}`;
          const earlier = await accepted();
          const opened = async () => (await accepted()) - earlier;
          const publish = (/** @type {unknown} */ data, event = "tick") => hub.publish({ topic, event, data });
          try {
            await body({ page, tab, hub, topic, url, publish, opened, streams });
            assert.deepEqual(page.errors, []);
          } finally {
            await context.close();
            await streams(0);
          }
        }),
      );
    });
  }
}

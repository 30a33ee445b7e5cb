// The picture of the console in the README, and others on a phone and in the dark. They are taken on each run; `UPDATE_SCREENSHOT=1` also keeps
// the first, and `SCREENSHOTS=FOLDER` all of them.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { launch } from "../../testing/browser.js";
import { Hub } from "../../testing/hub.js";

const PICTURE = new URL("../../../docs/console.png", import.meta.url);
const shouldKeep = process.env.UPDATE_SCREENSHOT === "1";
/** Long enough for the charts to show something. */
const SECONDS = shouldKeep ? 60 : 2;

test("the console of a hub at work can be looked at", async () => {
  const hub = await Hub.start();
  const browser = await launch();
  const abort = new AbortController();
  try {
    const read = (/** @type {string} */ query) =>
      fetch(`${hub.url}/events?${query}`, { signal: abort.signal })
        .then(async (answer) => {
          for await (const chunk of /** @type {any} */ (answer.body)) if (!chunk) return;
        })
        .catch(() => {});
    for (const [n, topic] of ["news", "job/*", "order/created", "room/7", "metrics", "order/*"].entries()) {
      read(`topic=${topic}&user_id=${["ann", "bob", "cleo"][n % 3]}`);
    }
    read("durable=mailer&topic=order/*");
    for (const [id, title, total, progress] of /** @type {const} */ ([
      ["import-42", "Import customers", 120, 87],
      ["video-7", "Summarise a video", 10, 3],
      ["report", "Monthly report", 4, 4],
    ])) {
      await hub.post("/jobs", { job_id: id, title, total });
      await hub.post(`/jobs/${id}/progress`, { progress, message: "Processing" });
    }
    await hub.post("/jobs/report/complete", { result: { pages: 12 } });
    const pages = [];
    for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
      for (const viewport of [{ width: 1280, height: 960 }, { width: 390, height: 844 }]) {
        const page = await (await browser.newContext({ viewport, colorScheme })).newPage();
        await page.goto(`${hub.url}/console`);
        pages.push({ page, name: `console-${viewport.width}-${colorScheme}.png` });
      }
    }
    const until = Date.now() + SECONDS * 1000;
    for (let n = 0; Date.now() < until; n += 1) {
      await hub.publish([
        { topic: "news", event_type: "headline", data: { title: `Story ${n}` } },
        { topic: "order/created", event_type: "order", data: { id: 1000 + n, total: 19.9 } },
        { topic: "metrics", data: { load: Math.round(50 + 40 * Math.sin(n / 40)) / 100 } },
      ]);
      await new Promise((resolve) => setTimeout(resolve, 60 + 50 * Math.sin(n / 25)));
    }
    for (const [n, { page, name }] of pages.entries()) {
      await page.locator("tr", { hasText: "cleo" }).first().waitFor();
      const picture = await page.screenshot();
      assert(picture.length > 15_000 && picture.length < 250_000, `${name}: ${picture.length} bytes`);
      if (process.env.SCREENSHOTS) {
        writeFileSync(join(process.env.SCREENSHOTS, name), picture);
        writeFileSync(join(process.env.SCREENSHOTS, `whole-${name}`), await page.screenshot({ fullPage: true }));
      }
      if (shouldKeep && n === 0) writeFileSync(PICTURE, picture);
    }
  } finally {
    abort.abort();
    await browser.close();
    await hub.stop();
  }
});

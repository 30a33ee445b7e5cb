// The applications that tell how their jobs get on: one page, four back ends.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { launch } from "../../web/testing/browser.js";
import { Example } from "../testing/example.js";

/** @type {import("../../web/testing/browser.js").Browser} */
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

for (const name of ["flask", "fastapi", "express", "go"]) {
  test(`${name}: the page follows a job to its end, and so does one that comes late`, async () => {
    const example = await Example.start(name);
    const context = await browser.newContext();
    try {
      const page = await context.newPage();
      /** @type {Error[]} */
      const errors = [];
      page.on("pageerror", (error) => errors.push(error));
      await page.goto(example.url);
      await page.getByRole("button").click();
      await page.getByText(/Page \d+ of 10/).waitFor();

      const late = await context.newPage();
      await late.goto(page.url());
      await late.getByText(/Page \d+ of 10/).waitFor();
      await page.reload();

      for (const each of [page, late]) {
        await each.getByText("Done: 10 pages").waitFor();
        assert.equal(await each.getByRole("progressbar").getAttribute("value"), "100");
      }
      const afterwards = await context.newPage();
      await afterwards.goto(page.url());
      await afterwards.getByText("Done: 10 pages").waitFor();
      assert.deepEqual(errors, []);

      const answer = await fetch(`${example.hubUrl}/events/poll?after=earliest&topic=job/${new URL(page.url()).hash.slice(1)}`);
      const { events } = await answer.json();
      const told = events.map((/** @type {{event: string}} */ { event }) => event);
      assert.deepEqual(told, ["status", ...Array(11).fill("progress"), "complete"]);
    } finally {
      await context.close();
      await example.stop();
    }
  });
}

test("the four have the same page", () => {
  const pages = ["flask", "fastapi", "express", "go"].map((name) => readFileSync(new URL(`../${name}/index.html`, import.meta.url), "utf8"));
  assert.equal(new Set(pages).size, 1);
});

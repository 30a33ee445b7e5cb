// The plain page, with what its README says to type.
import assert from "node:assert/strict";
import { test } from "node:test";

import { launch } from "../../web/testing/browser.js";
import { Example } from "../testing/example.js";

test("EventSource and the client show what curl publishes, once, also after the hub has crashed", async () => {
  const example = await Example.start("plain");
  const browser = await launch();
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(example.url);
    for (const id of ["native", "client"]) await page.locator(`#${id}-state`, { hasText: "open" }).waitFor();

    const [world = "", again = "", poll = ""] = example.commands;
    await example.run(world);
    await example.restartHub();
    await example.run(again);
    await example.run(again);
    const { events } = JSON.parse(await example.run(poll));
    assert.equal(events.length, 2);

    for (const id of ["native", "client"]) {
      await page.locator(`#${id} >> text=again`).waitFor();
      assert.deepEqual(await page.locator(`#${id} li`).allTextContents(), ["world", "again"]);
    }
  } finally {
    await browser.close();
    await example.stop();
  }
});

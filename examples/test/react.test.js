// The page that Vite builds, with what its README says to type.
import assert from "node:assert/strict";
import { test } from "node:test";

import { launch } from "../../web/testing/browser.js";
import { Example } from "../testing/example.js";

test("the hooks show a job and its notes as they are told, and cancel it", async () => {
  const example = await Example.start("react");
  const browser = await launch();
  try {
    const page = await browser.newPage();
    /** @type {Error[]} */
    const errors = [];
    page.on("pageerror", (error) => errors.push(error));
    await page.goto(example.url);
    await page.getByText("There is no job demo yet.").waitFor();

    const [create = "", progress = "", note = "", complete = ""] = example.commands;
    await example.run(create);
    await page.getByRole("heading", { name: "Summaries" }).waitFor();
    await example.run(progress);
    await page.getByText("Page 3 of 10").waitFor();
    assert.equal(await page.getByRole("progressbar").getAttribute("value"), "30");
    await example.run(note);
    await page.getByRole("listitem").getByText("half of it soon").waitFor();
    await example.run(complete);
    await page.getByText("Done: 10 pages").waitFor();

    // Another job in its place, cancelled from the page.
    await fetch(`${example.hubUrl}/events?topic=job/demo`, { method: "DELETE" });
    await page.reload();
    await page.getByText("There is no job demo yet.").waitFor();
    await example.run(create);
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByText("Cancelled.").waitFor();
    assert.equal((await (await fetch(`${example.hubUrl}/jobs/demo`)).json()).status, "cancelled");
    assert.deepEqual(errors, []);
  } finally {
    await browser.close();
    await example.stop();
  }
});

// @ts-nocheck: what runs in the page has no types here. test/types.ts has those that the hooks promise.
// Jobs in components.
import assert from "node:assert/strict";

import { inReacts } from "../../testing/react-suite.js";

/**
 * Shows the job with an id, with what is given beside it.
 *
 * @param {import("../../testing/react-suite.js").Given} given
 * @param {string | null} id
 */
const show = ({ page, hub }, id) =>
  page.run(
    ({ React, h, render, useJob }, { url, id }) => {
      const View = ({ id }) => {
        const { percent, total, message, status, result, error, isDone, cancel, reconnect, job } = useJob(id, window.jobOptions?.(url) ?? { url });
        window.job = job;
        Object.assign(window, { cancel, reconnect });
        return h("p", null, `${status} ${percent}% of ${total}: ${message} ${JSON.stringify(result)} ${error?.message} ${isDone}.`);
      };
      window.root ??= render(null);
      window.root.render(h(React.StrictMode, null, h(View, { id })));
    },
    { url: hub.url, id },
  );

inReacts((it) => {
  it("a job is followed from before it exists to its end, which closes the connection", async (given) => {
    const { page, hub, topic: job_id, opened, streams } = given;
    await show(given, job_id);
    await page.shows("null 0% of null: null null undefined false.");
    await streams(1);
    await hub.post("/jobs", { job_id, title: "T", total: 8 });
    await page.shows("pending 0% of 8: null null undefined false.");
    await hub.post(`/jobs/${job_id}/progress`, { progress: 2, message: "reading", step: "a" });
    await page.shows("in_progress 25% of 8: reading null undefined false.");
    assert.equal((await page.run(() => window.job)).step, "a");
    await hub.post(`/jobs/${job_id}/complete`, { result: { pages: 3 } });
    await page.shows('completed 100% of 8: reading {"pages":3} undefined true.');
    await streams(0);
    assert.equal(await opened(), 1);
  });

  it("jobs that have ended are shown as they ended", async (given) => {
    const { page, hub, streams } = given;
    for (const job_id of ["done(1)", "failed", "cancelled"]) await hub.post("/jobs", { job_id });
    await hub.post("/jobs/done(1)/complete", { result: 7 });
    await hub.post("/jobs/failed/error", { error: "disk full" });
    await hub.post("/jobs/cancelled/cancel", { message: "no more" });
    await show(given, "done(1)");
    await page.shows("completed 100% of null: null 7 undefined true.");
    await show(given, "failed");
    await page.shows("error 0% of null: null null disk full true.");
    await show(given, "cancelled");
    await page.shows("cancelled 0% of null: no more null undefined true.");
    await streams(0);
  });

  it("another id shows nothing of the one before, and null follows none", async (given) => {
    const { page, hub, streams } = given;
    await hub.post("/jobs", { job_id: "one", total: 2 });
    await hub.post("/jobs/one/progress", { progress: 1, message: "half" });
    await hub.post("/jobs", { job_id: "two" });
    await hub.post("/jobs/two/progress", { progress: 30 });
    await show(given, "one");
    await page.shows("in_progress 50% of 2: half null undefined false.");
    await show(given, "two");
    await page.shows("in_progress 30% of null: null null undefined false.");
    await show(given, null);
    await page.shows("null 0% of null: null null undefined false.");
    await streams(0);
    for (const id of ["one", "two"]) await hub.post(`/jobs/${id}/cancel`, {});
  });

  it("cancel cancels, also as the handler of a click, and is refused once it is too late", async (given) => {
    const { page, hub, topic: job_id } = given;
    await hub.post("/jobs", { job_id });
    await show(given, job_id);
    await page.shows("pending");
    await page.run(() => window.cancel("enough"));
    await page.shows("cancelled 0% of null: enough null undefined true.");
    assert.equal((await hub.request(`/jobs/${job_id}`)).status, "cancelled");
    const refused = await page.run(async () => window.cancel(new Event("click")).catch(({ status, name }) => `${name} ${status}`));
    assert.equal(refused, "ConnectionError 409");
  });

  it("a connection that was refused is told, and reconnecting tries again", async (given) => {
    const { page, hub, topic: job_id } = given;
    await hub.post("/jobs", { job_id });
    await page.run(() => {
      window.refused = true;
      const refusing = (url, request) => (window.refused ? new Response("", { status: 403 }) : fetch(url, request));
      window.jobOptions = (url) => ({ url: `${url}/events`, fetch: refusing });
    });
    await show(given, job_id);
    await page.shows("null 0% of null: null null 403 false.");
    await page.run(() => {
      window.refused = false;
      window.reconnect();
    });
    await page.shows("pending 0% of null: null null undefined false.");
    await page.run(() => window.cancel());
    await page.shows("cancelled");
  });

  it("where streams fail it is right by polling, before, during and after", async (given) => {
    const { page, hub, topic: job_id } = given;
    await page.run(() => {
      const polls = (url, request) => (url.includes("/events?") ? new Response("", { status: 502 }) : fetch(url, request));
      window.jobOptions = (url) => ({ url, pollAfter: 1, baseDelay: 10, fetch: polls });
    });
    await hub.post("/jobs", { job_id, total: 4 });
    await hub.post(`/jobs/${job_id}/progress`, { progress: 1, step: "a" });
    await show(given, job_id);
    await page.shows("in_progress 25% of 4: null null undefined false.");
    assert.equal((await page.run(() => window.job)).step, "a");
    await hub.post(`/jobs/${job_id}/progress`, { progress: 3 });
    await page.shows("in_progress 75% of 4: null null undefined false.");
    await hub.post(`/jobs/${job_id}/complete`, {});
    await page.shows("completed 100% of 4: null null undefined true.");
    await show(given, null);
    await page.run(() => new Promise((resolve) => setTimeout(resolve, 800)));
    await show(given, job_id);
    await page.shows("completed 100% of 4: null null undefined true.");
  });
});

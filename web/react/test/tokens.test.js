// @ts-nocheck: what runs in the page has no types here. test/types.ts has those that the hooks promise.
// Texts in components that models write.
import assert from "node:assert/strict";

import { inReacts } from "../../testing/react-suite.js";

/**
 * Shows the text of a topic in one more place.
 *
 * @param {import("../../testing/react-suite.js").Given} given
 * @param {string} topic
 * @param {string} name
 * @param {object} [options]
 */
const show = ({ page, hub }, topic, name, options) =>
  page.run(
    ({ React, h, render, useTokens }, { url, topic, name, options = {} }) => {
      if (options.select) options.select = (data) => data.choices[0].delta.content;
      const View = () => {
        const { text, done, isStopped, error, stop } = useTokens(topic, { url, ...options });
        window.stop = stop;
        return h("p", null, `${name}: ${text}| ${done} ${isStopped} ${error?.message}`);
      };
      render(h(React.StrictMode, null, h(View)));
    },
    { url: hub.url, topic, name, options },
  );

inReacts((it) => {
  it("whoever comes late has the whole text", async (given) => {
    const { page, topic, publish, streams } = given;
    await publish("12", "token");
    await show(given, topic, "first");
    await page.shows("first: 12| false false undefined");
    await publish(" is", "token");
    await publish(".0", "token");
    await page.shows("first: 12 is.0| false false undefined");
    // With other options it has a connection of its own.
    await show(given, topic, "late", { baseDelay: 999 });
    await page.shows("late: 12 is.0| false false undefined");
    await publish("!", "token");
    await publish({ tokens: 4 }, "done");
    await page.shows("first: 12 is.0!| true false undefined");
    await page.shows("late: 12 is.0!| true false undefined");
    await streams(0);
    await show(given, topic, "after");
    await page.shows("after: 12 is.0!| true false undefined");
    await page.run(() => window.stop());
  });

  it("JSON has its text where select says, and a failure is told", async (given) => {
    const { page, topic, publish, opened, streams } = given;
    await show(given, topic, "it", { event: "message", select: true });
    for (const content of ["Hel", undefined, "lo"]) await publish({ choices: [{ delta: { content } }] }, "message");
    await page.shows("it: Hello| false false undefined");
    // A function that fails is told, and costs that event only.
    await publish({ choices: [] }, "message");
    await publish({ choices: [{ delta: { content: "!" } }] }, "message");
    await page.shows("it: Hello!| false false undefined");
    assert.match(page.errors.splice(0).join(), /^TypeError/);
    await publish({ error: { message: "too long" } }, "error");
    await page.shows("it: Hello!| true false too long");
    await streams(0);
    assert.equal(await opened(), 1);
  });

  it("stop ends the text for all who read it, and tells its writer", async (given) => {
    const { page, hub, topic, publish } = given;
    await publish("to be", "token");
    await show(given, topic, "first");
    await show(given, topic, "late", { baseDelay: 999 });
    await page.shows("first: to be| false");
    await page.shows("late: to be| false");
    await page.run(() => window.stop());
    await publish("too late", "token");
    await page.shows("first: to be| true true undefined");
    await page.shows("late: to be| true true undefined");
    const { events } = await hub.request(`/events/poll?topic_exact=${encodeURIComponent(topic)}&after=earliest`);
    assert.deepEqual(events.map(({ event }) => event), ["token", "stop", "token"]);
  });

  it("the text of a job is stopped by cancelling the job, and done with it", async (given) => {
    const { page, hub, streams } = given;
    for (const job_id of ["cancelled text", "whole text"]) await hub.post("/jobs", { job_id });
    for (const topic of ["job/cancelled text", "job/whole text"]) await hub.publish({ topic, event: "token", data: "once" });
    await show(given, "job/whole text", "whole");
    // It is drawn for the last time before the other is, whose `stop` is the one that is called.
    await page.shows("whole: once| false");
    await show(given, "job/cancelled text", "cancelled");
    await page.shows("cancelled: once| false");
    await page.run(() => window.stop());
    await page.shows("cancelled: once| true true undefined");
    assert.equal((await hub.request("/jobs/cancelled%20text")).status, "cancelled");
    await hub.post("/jobs/whole text/complete", {});
    await page.shows("whole: once| true false undefined");
    await streams(0);
  });

  it("a text may end with a reason, and have its job under another name", async (given) => {
    const { page, hub, topic, publish } = given;
    await hub.post("/jobs", { job_id: "writer" });
    await publish("so far", "token");
    await show(given, topic, "it", { job: "writer" });
    await page.shows("it: so far| false");
    await page.run(() => window.stop());
    assert.equal((await hub.request("/jobs/writer")).status, "cancelled");
    await publish(" and no further", "token");
    await publish({ reason: "stopped" }, "end");
    await page.shows("it: so far and no further| true true undefined");
    for (const [reason, shown] of [["complete", "false undefined"], ["failed", "false failed"]]) {
      await hub.publish({ topic: reason, event: "end", data: { reason } });
      await show(given, reason, reason);
      await page.shows(`${reason}: | true ${shown}`);
    }
  });

  it("a long text comes in few renderings", async ({ page, hub, topic }) => {
    const events = Array.from({ length: 5000 }, (_, n) => ({ topic, event: "token", data: `${n} ` }));
    await hub.post("/events", events);
    await page.run(
      ({ h, render, useTokens }, { url, topic }) => {
        window.rendered = 0;
        const View = () => {
          const { text } = useTokens(topic, { url });
          window.rendered += 1;
          return h("p", null, `${text.length} ${text.slice(-10)}`);
        };
        render(h(View));
      },
      { url: hub.url, topic },
    );
    await page.shows("23890 4998 4999");
    const rendered = await page.run(() => window.rendered);
    assert(rendered < 1000, `${rendered} renderings of 5000 tokens`);
  });
});

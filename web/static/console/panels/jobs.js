/** Long-running work, and how far it is. */

import { element, number, time } from "/static/page.js";

const NAMES = /** @type {Record<string, string>} */ ({ in_progress: "running", error: "failed" });

/** @type {import("../console.js").Panel} */
export default {
  title: "Jobs",
  width: "half",
  mount({ hub, body, tools }) {
    const counts = element("span", { class: "quiet" });
    tools.append(counts);
    const rows = element("tbody");
    const note = element("p", { class: "quiet", role: "status" });
    const empty = element("div", { class: "empty" }, element("p", {}, "No job is known. To begin one:"), element("pre", {}, `curl ${location.origin}/jobs -H 'Content-Type: application/json' -d '{"job_id":"demo","title":"A demo","total":10}'`));
    const table = element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("caption", { class: "sr" }, "Jobs, the newest first"), element("thead", {}, element("tr", {}, ...["Job", "State", "Progress", "Changed", ""].map((head) => element("th", { scope: "col" }, head || element("span", { class: "sr" }, "Cancel"))))), rows));
    body.append(note, table, empty);
    let last = 0;

    async function load() {
      last = Date.now();
      try {
        const { jobs, counts: of } = await hub.ask("/jobs?limit=100");
        counts.textContent = ["pending", "in_progress", "completed", "error", "cancelled"].filter((state) => of[state]).map((state) => `${number(of[state])} ${NAMES[state] ?? state}`).join(", ");
        empty.hidden = of.total > 0;
        table.hidden = of.total === 0;
        if (!rows.contains(document.activeElement)) rows.replaceChildren(...jobs.map(row));
      } catch (error) {
        note.textContent = `Not shown: ${/** @type {Error} */ (error).message}`;
      }
    }

    /** @param {any} job */
    function row(job) {
      const isOpen = job.status === "pending" || job.status === "in_progress";
      const bar = element("progress", { max: job.total || 100, "aria-label": `Progress of ${job.job_id}` });
      bar.value = job.status === "completed" ? job.total || 100 : job.progress ?? 0;
      const cancel = element("button", { type: "button", class: "danger", "aria-label": `Cancel ${job.job_id}` }, "Cancel");
      cancel.addEventListener("click", async () => {
        cancel.blur();
        await hub.ask(`/jobs/${encodeURIComponent(job.job_id)}/cancel`, { method: "POST", body: {} }).catch((error) => (note.textContent = error.message));
        load();
      });
      const tone = /** @type {Record<string, string>} */ ({ completed: "good", error: "bad", cancelled: "warn" })[job.status] ?? "";
      return element(
        "tr",
        {},
        element("td", { class: "wide" }, element("div", {}, job.title ?? job.job_id), element("div", { class: "quiet" }, job.title ? job.job_id : "")),
        element("td", {}, element("span", { class: `badge ${tone}` }, NAMES[job.status] ?? job.status)),
        element("td", { class: "wide" }, bar, element("div", { class: "quiet" }, job.error ?? job.message ?? "")),
        element("td", {}, time(job.updated_at)),
        element("td", {}, isOpen ? cancel : null),
      );
    }

    return {
      stats: () => {
        if (Date.now() - last >= 2000) load();
      },
    };
  },
};

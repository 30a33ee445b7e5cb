/** How the hub is, and what is wrong with it since when. */

import { element, number, size, time } from "/static/page.js";

/** @type {import("../console.js").Panel} */
export default {
  title: "Overview",
  width: "whole",
  mount({ hub, body }) {
    const figures = element("div", { class: "figures" });
    const alerts = element("ul", { class: "alerts", "aria-live": "polite" });
    body.append(alerts, figures);
    /** Since when each reason is there. @type {Map<string, number>} */
    const since = new Map();
    let shown = "";
    return {
      async stats(stats) {
        const health = await hub.ask("/health").catch(() => null);
        /** @type {{message: string, tone: string}[]} */
        const reasons = (health?.reasons ?? []).map((/** @type {any} */ reason) => ({
          message: reason.message ?? reason.signal ?? JSON.stringify(reason),
          tone: reason.status === "critical" || stats.status === "critical" ? "bad" : "warn",
        }));
        const messages = reasons.map(({ message }) => message);
        for (const message of since.keys()) if (!messages.includes(message)) since.delete(message);
        for (const message of messages) if (!since.has(message)) since.set(message, Date.now());
        // Read out only when it is another list.
        if (shown !== messages.join()) {
          shown = messages.join();
          alerts.replaceChildren(...reasons.map(({ message, tone }) => element("li", {}, element("b", { class: tone }, message), " – here since ", time(since.get(message) ?? Date.now()))));
        }
        const { system = {} } = health ?? {};
        figures.replaceChildren(
          ...[
            [number(stats.active_connections), `streams of ${number(stats.max_connections)}`],
            [number(stats.published_per_second), "published a second"],
            [number(stats.delivered_per_second), "delivered a second"],
            [stats.latency_ms.p99 === null ? "–" : `${number(stats.latency_ms.p99)} ms`, "latency p99"],
            [system.process_cpu_percent === undefined ? "–" : `${number(system.process_cpu_percent)} %`, "CPU of the hub"],
            [system.rss_bytes ? size(system.rss_bytes) : "–", "memory of the hub"],
            [stats.compression.streams.bytes_out ? `${number((100 * stats.compression.streams.bytes_out) / stats.compression.streams.bytes_in)} %` : "–", "size of gzip streams"],
            stats.log.durability === "memory" ? ["memory", "keeps the events"] : ["disk", `keeps the events (${stats.log.durability})`],
          ].map(([value, label]) => element("div", {}, element("b", {}, value), element("span", {}, label))),
          element("div", {}, element("b", {}, time(stats.started_at)), element("span", {}, "started")),
        );
      },
    };
  },
};

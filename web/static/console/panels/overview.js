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
        const reasons = /** @type {any[]} */ (health?.reasons ?? []).map((reason) => (typeof reason === "string" ? reason : JSON.stringify(reason)));
        for (const reason of since.keys()) if (!reasons.includes(reason)) since.delete(reason);
        for (const reason of reasons) if (!since.has(reason)) since.set(reason, Date.now());
        // Read out only when it is another list.
        if (shown !== reasons.join()) {
          shown = reasons.join();
          alerts.replaceChildren(...reasons.map((reason) => element("li", {}, element("b", { class: stats.status === "critical" ? "bad" : "warn" }, reason), " since ", time(since.get(reason) ?? Date.now()))));
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
            [stats.compression.streams.bytes_out ? `${number((100 * stats.compression.streams.bytes_out) / stats.compression.streams.bytes_in)} %` : "–", "of its size after compression"],
            [stats.log.durability === "memory" ? "memory" : `disk, ${stats.log.durability}`, "where events are kept"],
          ].map(([value, label]) => element("div", {}, element("b", {}, value), element("span", {}, label))),
          element("div", {}, element("b", {}, time(stats.started_at)), element("span", {}, "started")),
        );
      },
    };
  },
};

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
    /** The list item of each reason. @type {Map<string, HTMLElement>} */
    const items = new Map();
    /**
     * Only a reason that comes, goes or gets worse is read out. One whose value changes stays as it was announced, and has the value of the
     * moment as its title.
     *
     * @param {{signal: string, status: string, message: string, since?: number}[]} reasons
     */
    const show = (reasons) => {
      const keyOf = (/** @type {{signal: string, status: string}} */ { signal, status }) => `${signal} ${status}`;
      const keys = new Set(reasons.map(keyOf));
      for (const [key, item] of items) {
        if (keys.has(key)) continue;
        item.remove();
        items.delete(key);
      }
      for (const reason of reasons) {
        const item = items.get(keyOf(reason)) ?? element("li");
        if (!items.has(keyOf(reason))) {
          const since = reason.since ? [" – since ", time(reason.since * 1000)] : [];
          item.append(element("b", { class: reason.status === "critical" ? "bad" : "warn" }, reason.message), ...since);
          items.set(keyOf(reason), item);
          alerts.append(item);
        }
        item.title = reason.message;
      }
    };
    return {
      async stats(stats) {
        const health = await hub.ask("/health").catch(() => null);
        if (health) show(health.reasons ?? []);
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

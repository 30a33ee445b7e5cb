/** How long an event takes from the publish to the socket. */

import { chart } from "../chart.js";

/** @type {import("../console.js").Panel} */
export default {
  title: "Delivery latency",
  width: "half",
  mount({ body }) {
    const shown = chart(
      body,
      "Delivery latency in milliseconds, over the last ten minutes",
      [
        { label: "p50", color: "--accent", value: (stats) => stats.latency_ms.p50 },
        { label: "p95", color: "--warn", value: (stats) => stats.latency_ms.p95 },
        { label: "p99", color: "--bad", value: (stats) => stats.latency_ms.p99 },
      ],
      " ms",
    );
    return { stats: (stats) => shown.add(stats) };
  },
};

/** How much is published and delivered, and to how many. */

import { chart } from "../chart.js";

/** @type {import("../console.js").Panel} */
export default {
  title: "Rates",
  width: "half",
  mount({ body }) {
    const shown = chart(body, "Events published and delivered a second, and open streams, over the last ten minutes", [
      { label: "Published/s", color: "--accent", value: (stats) => stats.published_per_second },
      { label: "Delivered/s", color: "--warn", value: (stats) => stats.delivered_per_second },
      { label: "Streams", color: "--soft", value: (stats) => stats.active_connections },
    ]);
    return { stats: (stats) => shown.add(stats) };
  },
};

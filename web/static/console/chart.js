/** A chart of the last minutes, and the same as a table for whoever does not see it. */

import { element, number } from "/static/page.js";

/** As many points as are kept: ten minutes. */
const MAX_POINTS = 300;

/** @param {number} seconds */
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en", { hour12: false });

/** @typedef {{label: string, color: string, value: (stats: any) => number | null}} Series */

/**
 * @param {HTMLElement} body
 * @param {string} what What the chart shows, in a sentence.
 * @param {Series[]} series
 * @param {string} [unit]
 */
export function chart(body, what, series, unit = "") {
  const place = element("div", { class: "chart", "aria-hidden": "true" });
  const rows = element("tbody");
  const table = element("details", {}, element("summary", {}, "As a table"), element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("caption", { class: "sr" }, what), element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Time"), ...series.map(({ label }) => element("th", { scope: "col", class: "number" }, label)))), rows)));
  body.append(place, table);

  /** @type {(number | null)[][]} */
  const data = [[], ...series.map(() => [])];
  /** @type {any} */
  let plot = null;

  const draw = () => {
    const { uPlot } = /** @type {any} */ (globalThis);
    if (!uPlot || !place.clientWidth) return;
    const style = getComputedStyle(document.documentElement);
    const color = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    plot?.destroy();
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    plot = new uPlot(
      {
        width: place.clientWidth,
        height: 160,
        cursor: { y: false },
        legend: { live: true },
        scales: { y: { range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => [0, Math.max(1, high * 1.1) || 1] } },
        axes: [{ ...axis, space: 80, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map(clock) }, { ...axis, size: 56, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map((tick) => number(tick)) }],
        series: [{ label: "At", value: (/** @type {any} */ _, /** @type {number | null} */ at) => (at === null ? "–" : clock(at)) }, ...series.map(({ label, color: name }) => ({ label, stroke: color(name), width: 2, points: { show: false }, value: (/** @type {any} */ _, /** @type {number | null} */ value) => (value === null ? "–" : `${number(value)}${unit}`) }))],
      },
      data,
      place,
    );
    newest();
  };
  // Under the pointer the legend has the values there, and else the newest.
  const newest = () => {
    if (plot && (plot.cursor.left ?? -1) < 0) plot.setLegend({ idx: (data[0]?.length ?? 1) - 1 });
  };
  new ResizeObserver(draw).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  return {
    /** @param {any} stats */
    add(stats) {
      data[0]?.push(Date.now() / 1000);
      for (const [n, { value }] of series.entries()) data[n + 1]?.push(value(stats));
      for (const column of data) column.splice(0, Math.max(0, column.length - MAX_POINTS));
      if (plot) plot.setData(data);
      else draw();
      newest();
      if (!table.open) return;
      const last = data[0]?.length ?? 0;
      const shown = Array.from({ length: Math.min(30, last) }, (_, n) => last - 1 - n);
      rows.replaceChildren(...shown.map((at) => element("tr", {}, element("td", {}, clock(data[0]?.[at] ?? 0)), ...series.map((_, n) => {
        const value = data[n + 1]?.[at];
        return element("td", { class: "number" }, value === null || value === undefined ? "–" : `${number(value)}${unit}`);
      }))));
    },
  };
}

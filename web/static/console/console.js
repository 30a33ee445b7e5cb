/**
 * The console: one panel a file, each with the same small interface.
 *
 * Figures are asked for every two seconds, because they are sums that a stream would only send as often. Events come over the
 * project's own client.
 */

import { SSEConnection } from "/client/index.js";
import "/elements/sse-status.js";
import { Hub, byId, element, refreshTimes, tone } from "/static/page.js";
import connections from "./panels/connections.js";
import drops from "./panels/drops.js";
import jobs from "./panels/jobs.js";
import latency from "./panels/latency.js";
import log from "./panels/log.js";
import memory from "./panels/memory.js";
import overview from "./panels/overview.js";
import publish from "./panels/publish.js";
import rates from "./panels/rates.js";
import subscriptions from "./panels/subscriptions.js";
import topics from "./panels/topics.js";

/**
 * What a panel gets: the hub to ask, and the element that is its own.
 *
 * @typedef {object} Context
 * @property {Hub} hub
 * @property {HTMLElement} body
 * @property {HTMLElement} tools The place for buttons and fields beside the heading.
 *
 * What it hears: `stats` every two seconds, `event` for each event that the console may read.
 *
 * @typedef {object} Hears
 * @property {(stats: any) => void | Promise<void>} [stats]
 * @property {(event: MessageEvent) => void} [event]
 *
 * @typedef {object} Panel
 * @property {string} title
 * @property {"half" | "whole"} width
 * @property {(context: Context) => Hears} mount
 */

/** In the order in which they are shown. @type {Panel[]} */
const panels = [overview, rates, latency, connections, jobs, topics, memory, subscriptions, drops, publish, log];
const PERIOD = 2000;

const hub = new Hub();
/** @type {Hears[]} */
const mounted = [];

for (const [n, panel] of panels.entries()) {
  const id = `panel-${n}`;
  const tools = element("div", { class: "row" });
  const body = element("div");
  const width = panel.width === "half" ? "" : ` ${panel.width}`;
  const section = element("section", { class: `panel${width}`, "aria-labelledby": id }, element("header", {}, element("h2", { id }, panel.title), tools), body);
  byId("panels").append(section);
  mounted.push(panel.mount({ hub, body, tools }));
}

/** @type {SSEConnection | null} */
let connection = null;

function follow() {
  connection?.disconnect();
  const made = (connection = new SSEConnection("/events", { token: hub.token || undefined }));
  made.onevent = (event) => {
    for (const panel of mounted) panel.event?.(event);
  };
  /** @type {any} */ (byId("status")).connection = made;
}

/**
 * A panel that cannot make sense of the figures, as those of another version, leaves the others alone.
 *
 * @param {Hears} panel
 * @param {any} stats
 */
async function tell(panel, stats) {
  try {
    await panel.stats?.(stats);
  } catch {
    byId("state").className = "bad";
    byId("state").textContent = "The hub's figures are not understood";
  }
}

async function look() {
  if (document.hidden) return;
  const state = byId("state");
  try {
    const stats = await hub.ask("/events/stats");
    state.textContent = String(stats?.status);
    state.className = tone(stats?.status);
    for (const panel of mounted) tell(panel, stats);
  } catch (error) {
    state.className = "bad";
    state.textContent = error instanceof TypeError ? "The hub does not answer" : /** @type {Error} */ (error).message;
  }
}

// Asked for once: whoever closes the dialog can open it again.
let wasAsked = false;
const dialog = /** @type {HTMLDialogElement} */ (byId("sign-in"));
hub.addEventListener("refused", () => {
  if (!wasAsked && !dialog.open) dialog.showModal();
  wasAsked = true;
});
byId("sign-in-again").addEventListener("click", () => dialog.showModal());
byId("sign-in-close").addEventListener("click", () => dialog.close());
byId("sign-in-form").addEventListener("submit", () => {
  const field = /** @type {HTMLInputElement} */ (byId("token"));
  hub.token = field.value.trim();
  field.value = "";
  wasAsked = false;
  follow();
  look();
});

follow();
look();
setInterval(look, PERIOD);
setInterval(() => !document.hidden && refreshTimes(), 5000);

/** The test page: connect, look at what comes, publish. */

import { SSEConnection } from "/client/index.js";
import "/elements/sse-status.js";
import { Hub, byId, copy, element, number, quoted, refreshTimes, short, size, time, tone } from "/static/page.js";

/** The log keeps so many events. */
const MAX_EVENTS = 1000;
/** Of data so many characters; the oldest events go first. */
const MAX_LENGTH = 32 << 20;
/** Of one event so many are shown: a browser needs seconds to lay out a line of a million. */
const MAX_SHOWN = 64 << 10;
/** And the form so many of those that were published. */
const MAX_HISTORY = 20;

const hub = new Hub();
/** @param {string} id */
const field = (id) => /** @type {HTMLInputElement} */ (byId(id));
/** @param {string} id */
const list = (id) => field(id).value.split(",").map((it) => it.trim()).filter(Boolean);

// ------------------------------------------------------------------------------------------------------------- connection

/** @type {SSEConnection | null} */
let connection = null;

function address() {
  const query = new URLSearchParams();
  for (const topic of list("topics")) query.append("topic", topic);
  if (list("types").length) query.set("event_types", list("types").join(","));
  for (const [id, name] of [["user", "user_id"], ["session", "session_id"], ["last", "last_event_id"]]) {
    if (field(id).value) query.set(name, field(id).value);
  }
  return `/events${query.size ? `?${query}` : ""}`;
}

const names = { connecting: "Connecting", open: "Connected", waiting: "Waiting to try again", polling: "Polling", closed: "Closed" };

function connect() {
  connection?.disconnect();
  const url = address();
  const made = (connection = new SSEConnection(new URL(url, location.href), { token: hub.token || undefined, autoConnect: false }));
  /** @type {any} */ (byId("status")).connection = made;
  made.addEventListener("statechange", () => showState(made));
  made.onevent = (event) => made === connection && receive(event);
  made.addEventListener("error", (event) => {
    if (!(event instanceof MessageEvent)) showState(made);
  });
  made.connect().catch(() => {});
  showState(made);
}

/** @param {SSEConnection} shown */
function showState(shown) {
  if (shown !== connection) return;
  const { state, error, retryAt } = shown;
  byId("state").textContent = names[state];
  const isClosed = state === "closed";
  field("close").disabled = isClosed;
  field("again").disabled = isClosed;
  const wait = retryAt ? `; again in ${Math.max(0, (retryAt - Date.now()) / 1000).toFixed(1)} s` : "";
  byId("trouble").textContent = error ? `${error.message}${wait}` : "none";
  if (isClosed) byId("connection").textContent = "none";
}

byId("connect").addEventListener("submit", (event) => {
  event.preventDefault();
  hub.token = field("token").value;
  connect();
});
byId("close").addEventListener("click", () => connection?.disconnect());
byId("again").addEventListener("click", () => connection?.reconnect().catch(() => {}));
byId("copy-connect").addEventListener("click", (event) => {
  copy(`curl -N ${authorization()}${quoted(location.origin + address())}`, /** @type {HTMLButtonElement} */ (event.currentTarget));
});
field("token").value = hub.token;

function authorization() {
  return field("token").value ? "-H \"Authorization: Bearer $TOKEN\" " : "";
}

// ------------------------------------------------------------------------------------------------------------- the log

/** @typedef {{event: MessageEvent, at: number, item: HTMLLIElement | null}} Seen */

/** @type {Seen[]} */
const seen = [];
/** What came while the log was paused. @type {Seen[]} */
let held = [];
/** What has not been drawn yet. @type {Seen[]} */
let fresh = [];
let isPaused = false;
let isHovered = false;
let total = 0;

/** @param {MessageEvent} event */
function receive(event) {
  if (event.type === "connected") {
    try {
      byId("connection").textContent = JSON.parse(event.data).connection_id;
    } catch {
      // It is shown in the log as it is.
    }
  }
  total += 1;
  const it = { event, at: Date.now(), item: null };
  if (isPaused || isHovered) {
    held.push(it);
    trim(held);
  } else {
    if (!fresh.length) requestAnimationFrame(draw);
    fresh.push(it);
    trim(fresh);
  }
  showCounts();
}

/**
 * Takes away the oldest that are too many, or too much.
 *
 * @param {Seen[]} list
 */
function trim(list) {
  let length = list.reduce((sum, { event }) => sum + event.data.length, 0);
  let gone = 0;
  for (; list.length - gone > MAX_EVENTS || (length > MAX_LENGTH && gone < list.length); gone += 1) length -= list[gone]?.event.data.length ?? 0;
  for (const { item } of list.splice(0, gone)) item?.remove();
}

let countsAreDue = false;
function showCounts() {
  if (countsAreDue) return;
  countsAreDue = true;
  // Not for each event: whoever hears the page would hear nothing else.
  setTimeout(() => {
    countsAreDue = false;
    byId("count").textContent = number(total);
    byId("waiting").textContent = held.length ? `${number(held.length)} held back while the log is paused` : "";
    byId("last-id").textContent = connection?.lastEventId || "none";
  }, 250);
}

function draw() {
  const log = byId("log");
  for (const it of fresh) {
    seen.push(it);
    const item = (it.item = drawn(it));
    addType(it.event.type);
    item.hidden = !isWanted(it);
    log.prepend(item);
  }
  fresh = [];
  trim(seen);
  showEmptiness();
}

/** Says why there is nothing to be seen. */
function showEmptiness() {
  byId("nothing").hidden = seen.length > 0;
  byId("unmatched").hidden = !seen.length || seen.some(({ item }) => item && !item.hidden);
}

/** @param {Seen} it */
function drawn({ event, at }) {
  const { type, data, lastEventId } = event;
  const details = element("details", {}, element("summary", {}, time(at), element("span", {}, element("span", { class: "badge" }, short(type, 100))), element("code", {}, short(data, 300))));
  // What an event says is only built when somebody looks.
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    const lines = data.split("\n").map((/** @type {string} */ line) => `data: ${line}`);
    const frame = [type === "message" ? null : `event: ${type}`, lastEventId ? `id: ${lastEventId}` : null, ...lines].filter((line) => line !== null).join("\n");
    const bytes = new TextEncoder().encode(data).length;
    const cut = data.length > MAX_SHOWN ? "; only the beginning is shown" : "";
    details.append(element("p", { class: "quiet" }, `${size(bytes)} of data${latency(data, at)}${cut}`), element("pre", { tabindex: "0" }, short(readable(data), MAX_SHOWN)), element("p", { class: "quiet" }, "As an event of a stream:"), element("pre", { tabindex: "0" }, short(frame, MAX_SHOWN)));
  });
  return element("li", {}, details);
}

/** @param {string} data */
function readable(data) {
  try {
    return JSON.stringify(JSON.parse(data), null, 2);
  } catch {
    return data;
  }
}

/**
 * @param {string} data
 * @param {number} at
 */
function latency(data, at) {
  const [, sent] = data.slice(0, MAX_SHOWN).match(/"timestamp":\s*"([^"]{1,64})"/) ?? [];
  const milliseconds = sent ? at - Date.parse(sent) : NaN;
  return milliseconds >= 0 && milliseconds < 600_000 ? `, ${milliseconds} ms after its timestamp` : "";
}

const types = new Set();

/** @param {string} type */
function addType(type) {
  if (types.has(type) || types.size >= 200 || type.length > 256) return;
  types.add(type);
  byId("filter-type").append(element("option", { value: type }, type));
}

/** @param {Seen} it */
function isWanted({ event }) {
  const [type, text] = [field("filter-type").value, field("filter-text").value.toLowerCase()];
  return (!type || event.type === type) && (!text || `${event.type} ${event.lastEventId} ${event.data}`.toLowerCase().includes(text));
}

function filter() {
  for (const it of seen) if (it.item) it.item.hidden = !isWanted(it);
  showEmptiness();
}

for (const id of ["filter-type", "filter-text"]) byId(id).addEventListener("input", filter);
byId("show-all").addEventListener("click", () => {
  field("filter-type").value = field("filter-text").value = "";
  filter();
  field("filter-text").focus();
});

function release() {
  if (isPaused || isHovered || !held.length) return;
  if (!fresh.length) requestAnimationFrame(draw);
  fresh.push(...held);
  held = [];
  showCounts();
}

byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").textContent = isPaused ? "Go on" : "Pause";
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  release();
});
// What somebody points at stays where it is.
byId("log").addEventListener("pointerenter", (event) => (isHovered = event.pointerType === "mouse"));
byId("log").addEventListener("pointerleave", () => {
  isHovered = false;
  release();
});
byId("clear").addEventListener("click", () => {
  seen.length = held.length = fresh.length = total = 0;
  byId("log").replaceChildren();
  showEmptiness();
  showCounts();
});

// ------------------------------------------------------------------------------------------------------------- publishing

/** @type {{type: string, topic: string, data: string}[]} */
const history = [];

/** What the form says, or what is wrong with it. */
function message() {
  const [type, topic] = [field("event-type").value.trim(), field("topic").value.trim()];
  const data = JSON.parse(field("data").value);
  return { ...(type && { event_type: type }), data, ...(topic && { topic }) };
}

function check() {
  const note = byId("data-check");
  try {
    message();
    note.textContent = "";
    field("data").removeAttribute("aria-invalid");
    return true;
  } catch (error) {
    note.textContent = `This is no JSON: ${error instanceof Error ? error.message : error}`;
    note.className = "bad";
    field("data").setAttribute("aria-invalid", "true");
    return false;
  }
}

field("data").addEventListener("input", check);
byId("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = byId("published");
  if (!check()) {
    field("data").focus();
    return;
  }
  hub.token = field("token").value;
  try {
    const { id, durability } = await hub.ask("/events", { method: "POST", body: message() });
    said.className = "good";
    said.textContent = `Published as ${id} (${durability})`;
    remember();
  } catch (error) {
    said.className = "bad";
    said.textContent = `Not published: ${error instanceof Error ? error.message : error}`;
  }
});

function remember() {
  const entry = { type: field("event-type").value, topic: field("topic").value, data: field("data").value };
  history.unshift(entry);
  history.splice(MAX_HISTORY);
  const options = history.map(({ type, data }, n) => element("option", { value: String(n) }, `${type || "message"} ${data.replace(/\s+/g, " ").slice(0, 40)}`));
  byId("history").replaceChildren(element("option", { value: "" }, "choose"), ...options);
}

byId("history").addEventListener("change", () => {
  const entry = history[Number(field("history").value)];
  if (!field("history").value || !entry) return;
  [field("event-type").value, field("topic").value, field("data").value] = [entry.type, entry.topic, entry.data];
  check();
});
byId("copy-publish").addEventListener("click", (event) => {
  if (check()) copy(publishLine(), /** @type {HTMLButtonElement} */ (event.currentTarget));
});

function publishLine() {
  return `curl ${authorization()}-H 'Content-Type: application/json' ${location.origin}/events -d ${quoted(JSON.stringify(message()))}`;
}

byId("hint").textContent = publishLine();

// ------------------------------------------------------------------------------------------------------------- the server

async function showServer() {
  const health = byId("health");
  /** @type {[string, string][]} */
  let rows;
  try {
    const stats = await hub.ask("/events/stats");
    health.textContent = stats.status;
    health.className = `badge ${tone(stats.status)}`;
    rows = [
      ["Streams", `${number(stats.active_connections)} of ${number(stats.max_connections)}`],
      ["Published", `${number(stats.events_published)}, ${number(stats.published_per_second)}/s`],
      ["Delivered", `${number(stats.events_delivered)}, ${number(stats.delivered_per_second)}/s`],
      ["Latency p99", stats.latency_ms.p99 === null ? "none yet" : `${number(stats.latency_ms.p99)} ms`],
      ["Kept on", stats.log.durability === "memory" ? "memory, nothing outlives a restart" : `disk (${stats.log.durability})`],
      ["Up for", `${number(Math.floor(stats.uptime_seconds / 60))} min`],
    ];
  } catch (error) {
    health.className = "badge";
    const status = /** @type {any} */ (error).status;
    const isSecret = status === 401 || status === 403;
    health.textContent = isSecret ? "not shown" : "away";
    rows = [["Why", isSecret ? "this needs a token with the grant admin" : status === 404 ? "management is on another address of the hub" : String(error)]];
  }
  byId("server").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

setInterval(() => !document.hidden && showServer(), 5000);
setInterval(() => !document.hidden && refreshTimes(byId("log")), 5000);
showServer();

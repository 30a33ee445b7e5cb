/** What the hub's pages have in common: elements made of text, times, requests with a token. */

/**
 * An element with attributes, properties that begin with a dot, and listeners that begin with `on`. Children that are strings are text.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string | number | null | undefined)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) /** @type {any} */ (made)[name.slice(1)] = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined) made.append(typeof child === "number" ? String(child) : child);
  return made;
}

/**
 * The element of the page that has this id.
 *
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`there is no #${id}`);
  return /** @type {T} */ (found);
}

const units = /** @type {const} */ ([
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
]);
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });

/**
 * How long ago something was, such as `3 min. ago`.
 *
 * @param {number} milliseconds As `Date.now()` has it.
 * @param {number} [now]
 */
export function ago(milliseconds, now = Date.now()) {
  const seconds = (milliseconds - now) / 1000;
  const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  return relative.format(Math.trunc(seconds / size), unit);
}

/**
 * An element that shows how long ago something was, and exactly when on hover.
 *
 * @param {number | string} at
 */
export function time(at) {
  const milliseconds = typeof at === "number" ? at : Date.parse(at);
  if (Number.isNaN(milliseconds)) return element("span", {}, String(at));
  const exact = new Date(milliseconds).toISOString();
  return element("time", { datetime: exact, title: exact }, ago(milliseconds));
}

/**
 * Brings the times up to date that `time` made.
 *
 * @param {ParentNode} [within]
 */
export function refreshTimes(within = document) {
  const now = Date.now();
  for (const shown of within.querySelectorAll("time")) {
    const text = ago(Date.parse(shown.dateTime), now);
    if (shown.textContent !== text) shown.textContent = text;
  }
}

/** @param {number} bytes */
export function size(bytes) {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let n = 0;
  for (; bytes >= 1024 && n < names.length - 1; n += 1) bytes /= 1024;
  return `${n && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${names[n]}`;
}

/**
 * The beginning of a text; what was left out is told as dots.
 *
 * @param {string} text
 * @param {number} most
 */
export function short(text, most) {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** @param {number} value */
export function number(value) {
  return plain.format(value);
}

/**
 * So many of something, as in `1 event` and `1,000 events`.
 *
 * @param {number} count
 * @param {string} one
 */
export function plural(count, one) {
  return `${number(count)} ${one}${count === 1 ? "" : "s"}`;
}

/**
 * The class that colours what the hub says of itself.
 *
 * @param {unknown} status
 */
export function tone(status) {
  return status === "healthy" ? "good" : status === "warning" ? "warn" : status === "critical" ? "bad" : "";
}

/** A request that was refused. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The hub that a page belongs to, and the token that it is asked with. The token stays in this tab, and never stands in a URL. */
export class Hub extends EventTarget {
  #token = "";

  constructor() {
    super();
    try {
      this.#token = sessionStorage.getItem(TOKEN) ?? "";
    } catch {
      // Without storage it is asked for again.
    }
  }

  get token() {
    return this.#token;
  }

  set token(token) {
    if (token === this.#token) return;
    this.#token = token;
    try {
      sessionStorage.setItem(TOKEN, token);
    } catch {
      // It holds until the page is left.
    }
    this.dispatchEvent(new Event("token"));
  }

  /**
   * @param {string} path
   * @param {{method?: string, body?: unknown, signal?: AbortSignal}} [request]
   * @returns {Promise<any>}
   */
  async ask(path, { method = "GET", body, signal } = {}) {
    /** @type {Record<string, string>} */
    const headers = {};
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: "no-store" });
    const text = await answer.text();
    /** @type {any} */
    let value = text;
    try {
      value = JSON.parse(text);
    } catch {
      // It is text.
    }
    if (!answer.ok) {
      if (answer.status === 401 || answer.status === 403) this.dispatchEvent(new Event("refused"));
      throw new Refused(answer.status, value?.detail ?? `${answer.status} ${answer.statusText}`);
    }
    return value;
  }
}

const TOKEN = "sse-hub-token";

/**
 * Copies text, and says so on the button for a moment.
 *
 * @param {string} text
 * @param {HTMLButtonElement} button
 */
export async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    const field = element("textarea", { class: "sr" }, text);
    document.body.append(field);
    field.select();
    button.textContent = document.execCommand("copy") ? "Copied" : "Could not copy";
    field.remove();
  }
  setTimeout(() => (button.textContent = label), 1500);
}

/**
 * A text as one word of a shell.
 *
 * @param {string} text
 */
export function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** `<sse-toasts>`: short messages in a corner, by kind, that go by themselves. */

import { ConnectedElement, sheet } from "./connection.js";

const style = sheet(`
  :host { position: fixed; right: 1rem; bottom: 1rem; z-index: 1000; display: grid; gap: 0.5rem; width: min(24rem, calc(100vw - 2rem)); pointer-events: none; }
  div { pointer-events: auto; display: flex; gap: 0.75rem; align-items: start; padding: 0.65rem 0.8rem; border-radius: 0.5rem;
    color: var(--sse-toast-ink, #1b211e); background: var(--sse-toast-surface, #fff); box-shadow: 0 2px 12px rgb(0 0 0 / 0.2);
    border-left: 0.3rem solid var(--kind); font: 0.9375rem/1.4 system-ui, sans-serif; overflow-wrap: anywhere; }
  div.info { --kind: var(--sse-info, #2f6db3); }
  div.success { --kind: var(--sse-good, #19734f); }
  div.warning { --kind: var(--sse-warn, #b27400); }
  div.error { --kind: var(--sse-bad, #b3261e); }
  span { flex: none; width: 1.4em; text-align: center; border-radius: 50%; box-shadow: inset 0 0 0 0.125rem var(--kind); font-weight: 600; }
  p { margin: 0; flex: 1; }
  button { border: 0; background: none; color: inherit; cursor: pointer; font: inherit; padding: 0 0.25rem; }
  button:focus-visible { outline: 2px solid currentColor; }
  @media (prefers-color-scheme: dark) { div { color: var(--sse-toast-ink, #e6ebe8); background: var(--sse-toast-surface, #262d29); } }
`);

/** The sign of each kind, for whoever does not see its colour. */
const SIGNS = new Map(Object.entries({ info: "i", success: "\u2713", warning: "!", error: "\u00d7" }));
/** As many are shown at once; the oldest goes. */
const MAX = 5;
/** As many characters of each. */
const MAX_TEXT = 500;

/**
 * Attributes: `events`, the types it shows, with commas between (`system,summary_complete,error`); `duration`, the milliseconds that
 * each stays (5000). A message's kind is its `kind` or `type`, or else follows from the event.
 */
export class SSEToasts extends ConnectedElement {
  constructor() {
    super(style);
  }

  /** @override @param {import("../client/src/connection.js").SSEConnection} connection */
  listen(connection) {
    const types = (this.getAttribute("events") ?? "system").split(",").map((type) => type.trim());
    const gone = types.map((type) => connection.on(type, (data) => this.#tell(type, data)));
    return () => gone.forEach((go) => go());
  }

  /**
   * @param {string} type
   * @param {any} data
   */
  #tell(type, data) {
    const { message, title, error, kind, type: ofMessage } = typeof data === "object" && data ? data : { message: data };
    const fromType = type === "error" ? "error" : type.endsWith("complete") ? "success" : "info";
    const known = [kind, ofMessage].find((it) => SIGNS.has(it));
    const text = message ?? error ?? title ?? data;
    this.show(typeof text === "object" ? JSON.stringify(text) : String(text), known ?? fromType);
  }

  /**
   * Shows a message.
   *
   * @param {string} text
   * @param {string} [kind] `info`, `success`, `warning` or `error`.
   * @param {number} [duration] Milliseconds; 0 leaves it until somebody closes it.
   */
  show(text, kind = "info", duration = Number(this.getAttribute("duration") ?? 5000)) {
    const toast = document.createElement("div");
    toast.className = SIGNS.has(kind) ? kind : "info";
    toast.setAttribute("role", kind === "error" ? "alert" : "status");
    const sign = document.createElement("span");
    sign.textContent = SIGNS.get(toast.className) ?? "";
    sign.setAttribute("role", "img");
    sign.setAttribute("aria-label", toast.className);
    const words = document.createElement("p");
    words.textContent = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "\u00d7";
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => toast.remove());
    toast.append(sign, words, close);
    let timer = 0;
    // It waits as long as somebody reads it.
    const hold = () => clearTimeout(timer);
    const go = () => {
      hold();
      if (duration > 0) timer = +setTimeout(() => toast.remove(), duration);
    };
    for (const type of ["pointerenter", "focusin"]) toast.addEventListener(type, hold);
    for (const type of ["pointerleave", "focusout"]) toast.addEventListener(type, go);
    const root = /** @type {ShadowRoot} */ (this.shadowRoot);
    root.append(toast);
    while (root.childElementCount > MAX) root.firstElementChild?.remove();
    go();
    return toast;
  }
}

if (!customElements.get("sse-toasts")) customElements.define("sse-toasts", SSEToasts);

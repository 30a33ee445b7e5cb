/** `<sse-status>`: a dot that says whether events come. */

import { ConnectedElement, sheet } from "./connection.js";

const style = sheet(`
  :host { display: inline-flex; vertical-align: middle; }
  span { width: var(--sse-status-size, 0.75rem); height: var(--sse-status-size, 0.75rem); border-radius: 50%; background: var(--sse-bad, #b3261e); }
  span.on { background: var(--sse-good, #19734f); animation: pulse 2s infinite; }
  span.soon { background: var(--sse-warn, #b27400); }
  b { position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  @keyframes pulse { 0%, 100% { opacity: 1; } 50% { opacity: 0.55; } }
  @media (prefers-reduced-motion: reduce) { span.on { animation: none; } }
`);

/** The words for each state; a page in another language sets its own. */
export const words = {
  connecting: "Connecting",
  open: "Connected",
  polling: "Connected, without a stream",
  waiting: "Disconnected; trying again",
  closed: "Disconnected",
};

export class SSEStatus extends ConnectedElement {
  #dot = document.createElement("span");
  #text = document.createElement("b");

  constructor() {
    super(style);
    this.#text.setAttribute("role", "status");
    this.shadowRoot?.append(this.#dot, this.#text);
    this.#show("closed");
  }

  /** @override @param {import("../client/src/connection.js").SSEConnection} connection */
  listen(connection) {
    const show = () => this.#show(connection.state);
    connection.addEventListener("statechange", show);
    show();
    return () => connection.removeEventListener("statechange", show);
  }

  /** @param {keyof typeof words} state */
  #show(state) {
    this.#dot.className = state === "open" || state === "polling" ? "on" : state === "closed" ? "" : "soon";
    this.#text.textContent = words[state];
    this.title = words[state];
    this.dataset.state = state;
  }
}

if (!customElements.get("sse-status")) customElements.define("sse-status", SSEStatus);

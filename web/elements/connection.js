/** How an element comes to its connection: by its property, or by the attribute `src`. */

import { SSEConnection } from "/client/index.js";

/** An element that shows something of a connection. */
export class ConnectedElement extends HTMLElement {
  #connection = /** @type {SSEConnection | null} */ (null);
  /** Whether it was made here, and ends here. */
  #isOwn = false;
  #forget = /** @type {() => void} */ (() => {});

  /** @param {CSSStyleSheet} sheet How it looks; a sheet made here is no inline style, which a strict policy forbids. */
  constructor(sheet) {
    super();
    this.attachShadow({ mode: "open" }).adoptedStyleSheets = [sheet];
  }

  /** What it shows. A connection that is given stays its giver's, who ends it. */
  get connection() {
    return this.#connection;
  }

  set connection(connection) {
    this.#let(connection, false);
  }

  connectedCallback() {
    const src = this.getAttribute("src");
    if (src && !this.#connection) this.#let(new SSEConnection(new URL(src, document.baseURI)), true);
    else if (this.#connection) this.#let(this.#connection, this.#isOwn);
  }

  disconnectedCallback() {
    this.#forget();
    this.#forget = () => {};
    if (!this.#isOwn) return;
    this.#connection?.disconnect();
    this.#connection = null;
  }

  /**
   * @param {SSEConnection | null} connection
   * @param {boolean} isOwn
   */
  #let(connection, isOwn) {
    this.#forget();
    if (this.#isOwn && this.#connection !== connection) this.#connection?.disconnect();
    this.#connection = connection;
    this.#isOwn = isOwn;
    this.#forget = (connection && this.listen(connection)) ?? (() => {});
  }

  /**
   * Begins to listen; what it gives back ends that.
   *
   * @param {SSEConnection} _connection
   * @returns {() => void}
   */
  listen(_connection) {
    return () => {};
  }
}

/** @param {string} css */
export function sheet(css) {
  const made = new CSSStyleSheet();
  made.replaceSync(css);
  return made;
}

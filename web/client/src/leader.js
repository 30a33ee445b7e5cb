/** The one connection that many tabs share, as the tab sees it that holds it. */

import { SSEConnection } from "./connection.js";
import { parsed } from "./error.js";
import { ask } from "./request.js";

/** @import { ConnectionError } from "./error.js" */
/** @import { ConnectionOptions } from "./connection.js" */
/** @import { Beat, Delivery } from "./group.js" */

/**
 * Event types; null means all.
 *
 * @typedef {readonly string[] | null} Types
 */

/**
 * More types than this are asked for as all of them: the hub lets a connection name 64 topics and types, if nobody told it
 * otherwise, and the topics count too.
 */
const MAX_TYPES = 32;

/** Holds the connection, tells the tabs what comes, and asks for the types that they want together. */
export class Leader {
  #url;
  #options;
  #tabs;
  #post;
  #onEnd;
  #wire;
  /** The id of the event that was told last. */
  #at;
  #connection = "";
  #connected = "";
  /** The types that the connection has; undefined while there is none. @type {Types | undefined} */
  #inForce;
  #isAdjusting = false;
  #isClosed = false;

  /**
   * @param {object} about
   * @param {URL} about.url The stream's address, without event types.
   * @param {ConnectionOptions} about.options
   * @param {ReadonlyMap<string, Types>} about.tabs What each tab wants; it is looked at again with {@link adjust}.
   * @param {string} about.after The id to go on after; empty for what comes from now on.
   * @param {(message: Beat | Delivery) => void} about.post Tells all tabs, this one too.
   * @param {(error: ConnectionError) => void} about.onEnd The connection has given up.
   */
  constructor({ url, options, tabs, after, post, onEnd }) {
    this.#url = url;
    this.#options = options;
    this.#tabs = tabs;
    this.#at = after;
    this.#post = post;
    this.#onEnd = onEnd;
    const own = { topics: [], eventTypes: [], storageKey: "", signal: undefined, lastEventId: after, autoConnect: false };
    this.#wire = new Wire(this.#address(), { ...options, ...own }, (event) => this.#hear(event));
    this.#wire.connect().catch(() => {});
  }

  /** A sign of life, with all that a tab must know to take part. */
  beat() {
    const { state, error } = this.#wire;
    this.#post({
      kind: "beat",
      // What an open connection has is in its first event.
      state: state === "open" && this.#inForce === undefined ? "connecting" : state,
      last: this.#at,
      tabs: [...this.#tabs.keys()].filter((tab) => covers(this.#inForce, this.#tabs.get(tab) ?? null)),
      connected: this.#connected,
      error: error && { status: error.status, code: error.code, message: error.message },
    });
  }

  /** Has the connection follow what the tabs want now. */
  async adjust() {
    if (this.#isAdjusting) return;
    this.#isAdjusting = true;
    while (!this.#isClosed) {
      this.#wire.url = this.#address();
      const wanted = together(this.#tabs);
      // A connection that is being made has them in its address.
      if (this.#inForce === undefined || isSame(this.#inForce, wanted)) break;
      const connection = this.#connection;
      const isChanged = connection !== "" && (await this.#change(connection, wanted));
      if (this.#isClosed || connection !== this.#connection) continue;
      if (isChanged) {
        this.#inForce = wanted;
      } else {
        this.reconnect();
        break;
      }
    }
    this.#isAdjusting = false;
    if (!this.#isClosed) this.beat();
  }

  reconnect() {
    this.#wire.url = this.#address();
    this.#wire.reconnect().catch(() => {});
  }

  /** Tries again at once, if it waits. */
  wake() {
    if (this.#wire.state === "waiting") this.reconnect();
  }

  close() {
    this.#isClosed = true;
    this.#wire.disconnect();
  }

  #address() {
    const url = new URL(this.#url);
    const types = together(this.#tabs);
    if (types) url.searchParams.set("event_types", types.join(","));
    return url.href;
  }

  /**
   * @param {string} connection
   * @param {Types} types
   */
  async #change(connection, types) {
    const url = new URL(this.#url);
    url.search = "";
    url.pathname = url.pathname.replace(/\/?$/, "/subscriptions");
    const body = JSON.stringify({ connection_id: connection, event_types: types ?? [] });
    const request = { method: "POST", headers: { "Content-Type": "application/json" }, body };
    try {
      const answer = await ask(this.#options, url, request);
      await answer.body?.cancel();
      return answer.ok;
    } catch {
      return false;
    }
  }

  /** @param {Event} event */
  #hear(event) {
    if (this.#isClosed) return;
    if (event instanceof MessageEvent) {
      const { type, data, lastEventId } = event;
      const after = this.#at;
      if (type === "connected") {
        const { connection_id: connection = "", subscriptions = [] } = parsed(data) ?? {};
        this.#connection = connection;
        this.#connected = data;
        this.#inForce = subscriptions.length ? subscriptions : null;
      }
      this.#at = lastEventId;
      // Of two events in a row with one id, the second has none of its own; or else it had been dropped.
      this.#post({ kind: "event", type, data, id: lastEventId, after, hasId: lastEventId !== after });
      if (type !== "connected") return;
      // Before any event: whoever is not among its tabs has to ask for what it misses.
      this.beat();
      this.adjust();
    } else if (event.type === "statechange") {
      const { state, error } = this.#wire;
      if (state === "closed") {
        this.#isClosed = true;
        if (error) this.#onEnd(error);
        return;
      }
      if (state === "open") return;
      this.#connection = "";
      this.#inForce = state === "polling" ? together(this.#tabs) : undefined;
      this.beat();
    }
  }
}

/** A connection that tells everything at one place. */
class Wire extends SSEConnection {
  #sink;

  /**
   * @param {string} url
   * @param {ConnectionOptions} options
   * @param {(event: Event) => void} sink
   */
  constructor(url, options, sink) {
    super(url, options);
    this.#sink = sink;
  }

  /** @param {Event} event */
  dispatchEvent(event) {
    this.#sink(event);
    return true;
  }
}

/**
 * @param {ReadonlyMap<string, Types>} tabs
 * @returns {Types}
 */
function together(tabs) {
  const all = new Set();
  for (const types of tabs.values()) {
    if (!types) return null;
    for (const type of types) all.add(type);
  }
  return all.size && all.size <= MAX_TYPES ? [...all].sort() : null;
}

/**
 * @param {Types} one
 * @param {Types} other
 */
function isSame(one, other) {
  return one && other ? one.length === other.length && covers(one, other) : one === other;
}

/**
 * @param {Types | undefined} inForce
 * @param {Types} types
 */
function covers(inForce, types) {
  if (inForce === undefined) return false;
  return inForce === null || (types !== null && types.every((type) => inForce.includes(type)));
}

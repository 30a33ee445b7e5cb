/** The one connection that many tabs share, as the tab sees it that holds it. */

import { SSEConnection } from "./connection.js";
import { parsed } from "./error.js";
import { ask } from "./request.js";
import { asking, covers, together } from "./wants.js";
import { split, told } from "./wire.js";

/** @import { ConnectionError } from "./error.js" */
/** @import { ConnectionOptions } from "./connection.js" */
/** @import { Beat, Delivery } from "./group.js" */
/** @import { Wants } from "./wants.js" */

/** A longer address is too much for one connection: the hub takes 14 KiB, proxies often no more than 8. */
const MAX_ADDRESS = 6000;
/** The hub will not have what is asked for, whoever asks again. */
const REFUSED = [400, 401, 403, 413];

/** Holds the connection, tells the tabs what comes, and asks for what they want together. */
export class Leader {
  #url;
  #options;
  #tabs;
  /** Those that are asked for. */
  #admitted;
  /** Those with which the hub refuses to go on. */
  #away = /** @type {Set<string>} */ (new Set());
  #post;
  #onEnd;
  #wire;
  /** The id of the event that was told last. */
  #at;
  #connection = "";
  #connected = "";
  /** What the last request asked for. @type {Wants | undefined} */
  #asked;
  /** What the connection has; undefined while there is none. @type {Wants | undefined} */
  #inForce;
  /** What it may have already instead. @type {Wants | undefined} */
  #pending;
  #isAdjusting = false;
  #isClosed = false;

  /**
   * @param {object} about
   * @param {URL} about.url The stream's address, without topics and types.
   * @param {ConnectionOptions} about.options
   * @param {ReadonlyMap<string, Wants>} about.tabs What each tab wants; it is looked at again with {@link adjust}.
   * @param {Iterable<string>} about.admitted The tabs that are asked for from the beginning: this one, and those that the hub had taken.
   * @param {string} about.after The id to go on after; empty for what comes from now on.
   * @param {(message: Beat | Delivery) => void} about.post Tells all tabs, this one too.
   * @param {(error: ConnectionError) => void} about.onEnd The connection has given up.
   */
  constructor({ url, options, tabs, admitted, after, post, onEnd }) {
    this.#url = url;
    this.#options = options;
    this.#tabs = tabs;
    this.#admitted = new Set(admitted);
    this.#at = after;
    this.#post = post;
    this.#onEnd = onEnd;
    const own = { topics: [], eventTypes: [], storageKey: "", signal: undefined, lastEventId: after, autoConnect: false };
    this.#wire = new Wire(url.href, { ...options, ...own, fetch: this.#fetch }, (event) => this.#hear(event));
    this.#wire.connect().catch(() => {});
  }

  /** A sign of life, with all that a tab must know to take part. */
  beat() {
    const { state, error } = this.#wire;
    const [has, soon = has] = [this.#inForce, this.#pending];
    this.#post({
      kind: "beat",
      // What an open connection has is in its first event.
      state: state === "open" && !has ? "connecting" : state,
      last: this.#at,
      tabs: [...this.#tabs].flatMap(([tab, wants]) => (has && soon && covers(has, wants) && covers(soon, wants) ? tab : [])),
      away: [...this.#away],
      connected: this.#connected,
      error: error && { status: error.status, code: error.code, message: error.message },
    });
  }

  /** Has the connection follow what the tabs want now. */
  async adjust() {
    if (this.#isAdjusting) return;
    this.#isAdjusting = true;
    let atOnce = Infinity;
    while (!this.#isClosed) {
      for (const tabs of [this.#admitted, this.#away]) for (const tab of tabs) if (!this.#tabs.has(tab)) tabs.delete(tab);
      // A connection that is being made is asked for more when it is there.
      if (!this.#inForce) break;
      const others = [...this.#tabs.keys()].filter((tab) => !this.#admitted.has(tab) && !this.#away.has(tab));
      const newcomers = others.slice(0, atOnce);
      const wanted = this.#together(newcomers);
      if (covers(this.#inForce, wanted) && covers(wanted, this.#inForce)) {
        newcomers.forEach((tab) => this.#admitted.add(tab));
        if (newcomers.length === others.length) break;
        continue;
      }
      const connection = this.#connection;
      this.#pending = wanted;
      const outcome = await this.#change(connection, wanted);
      this.#pending = undefined;
      if (this.#isClosed || connection !== this.#connection) continue;
      if (outcome === "refused" && newcomers.length) {
        if (newcomers.length === 1) this.#away.add(newcomers[0]);
        // Which of them it is for whom all would be refused shows one by one.
        atOnce = 1;
        continue;
      }
      newcomers.forEach((tab) => this.#admitted.add(tab));
      if (outcome === "made") {
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

  /** @param {string[]} newcomers */
  #together(newcomers = []) {
    return together([...this.#admitted, ...newcomers].flatMap((tab) => this.#tabs.get(tab) ?? []));
  }

  /**
   * Asks for what is wanted now, whatever the address was when the connection was made.
   *
   * @type {typeof fetch}
   */
  #fetch = async (target, request) => {
    const wanted = (this.#asked = this.#together());
    const url = asking(new URL(/** @type {string} */ (target)), wanted);
    url.searchParams.set("show", "topics");
    return told(await (this.#options.fetch ?? fetch)(url.href, request));
  };

  /**
   * @param {string} connection
   * @param {Wants} wanted
   * @returns {Promise<"made" | "refused" | "failed">}
   */
  async #change(connection, wanted) {
    if (asking(this.#url, wanted).href.length > MAX_ADDRESS) return "refused";
    if (connection === "") return "failed";
    const { names, patterns, types } = wanted;
    const url = new URL(this.#url);
    url.search = "";
    url.pathname = url.pathname.replace(/\/?$/, "/subscriptions");
    const change = { connection_id: connection, topics: patterns ?? [], topic_exact: names ?? [], event_types: types ?? [] };
    const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(change) };
    try {
      const answer = await ask(this.#options, url, request);
      await answer.body?.cancel();
      if (answer.ok) return "made";
      return REFUSED.includes(answer.status) ? "refused" : "failed";
    } catch {
      return "failed";
    }
  }

  /** @param {Event} event */
  #hear(event) {
    if (this.#isClosed) return;
    if (event instanceof MessageEvent) {
      const { data, lastEventId } = event;
      const [type, about] = split(event.type);
      const after = this.#at;
      if (type === "connected") {
        const { connection_id: connection = "" } = parsed(data) ?? {};
        this.#connection = connection;
        this.#connected = data;
        this.#inForce = this.#asked;
      }
      this.#at = lastEventId;
      // Of two events in a row with one id, the second has none of its own; or else it had been dropped.
      this.#post({ kind: "event", type, data, id: lastEventId, after, hasId: lastEventId !== after, about });
      if (type !== "connected" || this.#isClosed) return;
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
      this.#inForce = state === "polling" ? this.#asked : undefined;
      this.beat();
      this.adjust();
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

/**
 * What components follow together.
 *
 * A source is a connection. A feed is what its events come to: the newest ones, a job, a text. Components with the same feed share
 * what it holds; feeds of the same URL and options share their source. Both exist from the first component's subscribing until
 * shortly after the last one's end, so nothing is opened while React renders, or on a server, and a component that is mounted twice
 * connects once.
 */

import { SSEConnection } from "sse-server-client";

/**
 * What the client takes. `connection` is another class of it: `SharedConnection` of `sse-server-client/shared` for all tabs of a
 * browser, where `identity` says whose it is.
 *
 * @typedef {NonNullable<ConstructorParameters<typeof SSEConnection>[1]> & {connection?: typeof SSEConnection, identity?: string}} ConnectionOptions
 */
/** @typedef {SSEConnection["state"]} State */
/** @typedef {SSEConnection["error"]} ConnectionFailure */

/**
 * @template Value
 * @typedef {object} Snapshot
 * @property {Value} value What the events came to.
 * @property {State} state
 * @property {boolean} isConnected
 * @property {ConnectionFailure} error What is wrong with the connection now; null while events come.
 * @property {Record<string, any> | null} gap What the stream last said of missing events.
 * @property {string} lastEventId
 */

/**
 * What a feed is.
 *
 * @template Value
 * @typedef {object} Plan
 * @property {string} key Plans with the same key are the same feed.
 * @property {string} sourceKey Those with the same source key share a connection.
 * @property {string} url
 * @property {ConnectionOptions} options
 * @property {Value} initial
 * @property {(value: Value, event: MessageEvent) => Value} fold What it is after an event; the same value if the event changes nothing.
 * @property {(value: Value) => boolean} [isOver] Whether nothing more can come, and the connection may be closed.
 * @property {(feed: Feed<Value>) => void} [onMissed] Events may be missing: the stream said so, or the connection polls.
 */

/** Milliseconds for which a feed outlives its last component: longer than React takes to mount one twice. A guess. */
const LINGER = 500;

/** What is asked for when it is needed, and so may be another function with each rendering. */
const FUNCTIONS = /** @type {const} */ (["token", "ticket", "headers", "fetch", "random"]);

const feeds = /** @type {Map<string, Feed<any>>} */ (new Map());
const sources = /** @type {Map<string, Source>} */ (new Map());

class Source {
  #key;
  #feeds = /** @type {Set<Feed<any>>} */ (new Set());

  /** @param {Plan<any>} plan */
  constructor({ sourceKey, url, options }) {
    this.#key = sourceKey;
    this.options = options;
    const latest = FUNCTIONS.filter((name) => typeof options[name] === "function").map((name) => [
      name,
      (/** @type {any[]} */ ...given) => /** @type {any} */ (this.options)[name](...given),
    ]);
    const { connection: Connection = SSEConnection, ...others } = options;
    this.connection = new Connection(url, { ...others, ...Object.fromEntries(latest), autoConnect: false });
    // A listener has to name a type; this sees them all.
    this.connection.dispatchEvent = (event) => {
      for (const feed of [...this.#feeds]) attempt(() => feed.hear(event));
      return EventTarget.prototype.dispatchEvent.call(this.connection, event);
    };
    if (options.autoConnect !== false && !options.signal?.aborted) this.connection.connect().catch(() => {});
  }

  /** @param {Feed<any>} feed */
  join(feed) {
    this.#feeds.add(feed);
  }

  /** @param {Feed<any>} feed */
  leave(feed) {
    this.#feeds.delete(feed);
    if (this.#feeds.size || sources.get(this.#key) !== this) return;
    sources.delete(this.#key);
    this.connection.disconnect();
  }
}

/** @template Value */
export class Feed {
  #plan;
  #listeners = /** @type {Set<() => void>} */ (new Set());
  #source = /** @type {Source | null} */ (null);
  #closing = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
  /** @type {Snapshot<Value>} */
  snapshot;

  /** @param {Plan<Value>} plan */
  constructor(plan) {
    this.#plan = plan;
    const source = sources.get(plan.sourceKey) ?? new Source(plan);
    sources.set(plan.sourceKey, source);
    source.join(this);
    this.#source = source;
    this.snapshot = { value: plan.initial, gap: null, ...standing(source) };
  }

  /**
   * @param {() => void} listener Called when the snapshot is another one.
   * @returns {() => void} Ends it.
   */
  subscribe(listener) {
    clearTimeout(this.#closing);
    const called = () => listener();
    this.#listeners.add(called);
    return () => {
      this.#listeners.delete(called);
      if (!this.#listeners.size) this.#closing = setTimeout(() => this.#close(), LINGER);
    };
  }

  /** @param {Event} event */
  hear(event) {
    const source = this.#source;
    if (!source) return;
    let { value, gap } = this.snapshot;
    const isGap = event instanceof MessageEvent && event.type === "gap";
    if (isGap) gap = parsed(event.data);
    if (event instanceof MessageEvent) value = this.#plan.fold(value, event);
    this.#set({ value, gap, ...standing(source) });
    const polls = source.connection.state === "polling" && !(event instanceof MessageEvent) && event.type === "statechange";
    if (this.#source && (isGap || polls)) this.#plan.onMissed?.(this);
  }

  /**
   * Has a value from elsewhere.
   *
   * @param {(value: Value) => Value} change
   */
  change(change) {
    if (this.#source) this.#set({ ...this.snapshot, value: change(this.snapshot.value) });
  }

  reconnect() {
    this.#source?.connection.reconnect().catch(() => {});
  }

  /** @param {ConnectionOptions} options The same ones, with newer functions. */
  renew(options) {
    if (this.#source) this.#source.options = options;
  }

  /** @param {Snapshot<Value>} next */
  #set(next) {
    const isOver = this.#plan.isOver?.(next.value);
    if (isOver) Object.assign(next, { state: "closed", isConnected: false, error: null });
    const before = this.snapshot;
    const names = /** @type {(keyof Snapshot<Value>)[]} */ (Object.keys(next));
    if (names.some((name) => !Object.is(next[name], before[name]))) {
      this.snapshot = next;
      for (const listener of [...this.#listeners]) listener();
    }
    if (isOver) this.#leave();
  }

  #leave() {
    this.#source?.leave(this);
    this.#source = null;
  }

  #close() {
    if (feeds.get(this.#plan.key) === this) feeds.delete(this.#plan.key);
    this.#leave();
  }
}

/**
 * The feed of a key, if a component follows it.
 *
 * @param {string} key
 * @returns {Feed<any> | undefined}
 */
export function feedOf(key) {
  return feeds.get(key);
}

/**
 * @template Value
 * @param {Plan<Value>} plan
 * @returns {Feed<Value>}
 */
export function openFeed(plan) {
  const feed = feeds.get(plan.key) ?? new Feed(plan);
  feeds.set(plan.key, feed);
  return feed;
}

/**
 * Options as a text: the same for the same options. Of functions it only matters whether they are there.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function keyOf(value) {
  if (typeof value === "function") return value.prototype instanceof SSEConnection ? `class ${identity(value)}` : "function";
  if (typeof value !== "object" || value === null) return typeof value === "string" ? JSON.stringify(value) : String(value);
  if (Array.isArray(value)) return `[${value.map(keyOf)}]`;
  if (Object.getPrototypeOf(value) !== Object.prototype) return `object ${identity(value)}`;
  const entries = Object.entries(value).filter(([, it]) => it !== undefined);
  return `{${entries.map(([name, it]) => `${JSON.stringify(name)}:${keyOf(it)}`).sort()}}`;
}

/**
 * JSON's value, or the text where it is none.
 *
 * @param {string} text
 * @returns {any}
 */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * What fails in a component's own function is told as what fails in a listener: it is no trouble of the connection.
 *
 * @param {() => void} task
 */
function attempt(task) {
  try {
    task();
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}

/** @param {Source} source */
function standing({ connection }) {
  const isConnected = connection.isConnected();
  const { state, error, lastEventId } = connection;
  return { state, isConnected, error: isConnected ? null : error, lastEventId };
}

const identities = /** @type {WeakMap<object, number>} */ (new WeakMap());
let lastIdentity = 0;

/** @param {object} it */
function identity(it) {
  if (!identities.has(it)) identities.set(it, (lastIdentity += 1));
  return identities.get(it);
}

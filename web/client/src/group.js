/**
 * The tabs that share a connection: who they are, and which of them holds it.
 *
 * A lock elects the tab that leads; the next in the queue has it as soon as that tab is closed, crashes or goes to sleep. All speak on
 * one channel. A tab that leads and no longer answers loses the lock to one that steals it.
 *
 * ```text
 * apart ──join──▶ waiting for the lock ──granted, or stolen from one that is silent──▶ leading
 *   ▲                  ▲    │                                                            │
 *   │                  └────┼──────────────────── stolen by another ─────────────────────┤
 *   └────────leave──────────┴────────────────────────────leave───────────────────────────┘
 * ```
 */

import { Leader } from "./leader.js";

/** @import { ConnectionError } from "./error.js" */
/** @import { ConnectionOptions, State } from "./connection.js" */
/** @import { Wants } from "./wants.js" */
/** @import { About } from "./wire.js" */

/**
 * How the connection is. `last` is the id it is at, `tabs` are those whose events all come over it, and `away`
 * those that it cannot have: what they want would be too much for one connection, or the hub refuses it.
 *
 * @typedef {{kind: "beat", state: State, last: string, tabs: string[], away: string[], connected: string,
 *   error: {status: number, code: string, message: string} | null}} Beat
 */

/**
 * One event, with the topics that it has. `after` is the id before it: who is not at that has missed something.
 *
 * @typedef {{kind: "event", type: string, data: string, id: string, after: string, hasId: boolean,
 *   about: About | null}} Delivery
 */

/**
 * What goes over the channel. Of what the leader says, `term` tells the newer one of two.
 *
 * @typedef {((Beat | Delivery) & {term: number})
 *   | {kind: "hello", tab: string, wants: Wants}
 *   | {kind: "bye", tab: string}
 *   | {kind: "ask" | "reconnect" | "wake"}} Message
 */

/** Milliseconds between two looks at the clock. */
const TICK = 500;
/** Milliseconds without a word after which a leader gives a sign of life, and the others ask for one. */
const QUIET = 1000;
/** Milliseconds without a word after which a leader that was asked has lost the lock. */
const SILENT = 2000;

/** One tab's part in it. */
export class Group {
  #name;
  #url;
  #options;
  #wants;
  #hooks;
  /** This tab's name among the others, another with each joining. */
  #id = "";
  #tabs = /** @type {Map<string, Wants>} */ (new Map());
  #channel = /** @type {BroadcastChannel | null} */ (null);
  /** The tabs whose events the connection had when it was heard of last. */
  #admitted = /** @type {string[]} */ ([]);
  #membership = /** @type {AbortController | null} */ (null);
  #queued = /** @type {AbortController | null} */ (null);
  #leader = /** @type {Leader | null} */ (null);
  #term = 0;
  #heardAt = 0;
  #isAsked = false;

  /** The id of the last event that was heard of. */
  last = "";

  /**
   * @param {object} about
   * @param {string} about.name Of the lock and the channel.
   * @param {URL} about.url The stream's address, without topics and types.
   * @param {ConnectionOptions} about.options
   * @param {Wants} about.wants What this tab wants.
   * @param {object} about.hooks
   * @param {(delivery: Delivery, isMissing: boolean) => void} about.hooks.onEvent An event, and whether something before it was missed.
   * @param {(beat: Beat, isIn: boolean, isMissing: boolean) => void} about.hooks.onBeat How the connection is, and whether all that
   *   this tab wants comes over it.
   * @param {() => void} about.hooks.onAway This tab has to look for another connection.
   * @param {(error: ConnectionError) => void} about.hooks.onEnd This tab led, and its connection has given up.
   */
  constructor({ name, url, options, wants, hooks }) {
    this.#name = name;
    this.#url = url;
    this.#options = options;
    this.#wants = wants;
    this.#hooks = hooks;
  }

  get isLeading() {
    return this.#leader !== null;
  }

  join() {
    if (this.#membership) return;
    const { signal } = (this.#membership = new AbortController());
    this.#id = crypto.randomUUID();
    this.#tabs = new Map([[this.#id, this.#wants]]);
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#heardAt = Date.now();
    this.#isAsked = false;
    const ticks = setInterval(() => this.#tick(), TICK);
    signal.addEventListener("abort", () => clearInterval(ticks));
    // Held as long as the tab is there; who gets it after that knows that the tab is not.
    navigator.locks.request(this.#lockOf(this.#id), { signal }, () => over(signal)).catch(() => {});
    this.#elect();
    this.#greet();
  }

  /** Takes no more part. What it held, another tab holds at once. */
  leave() {
    if (!this.#membership) return;
    this.#say({ kind: "bye", tab: this.#id });
    this.#membership.abort();
    this.#membership = null;
    this.#stepDown();
    this.#channel?.close();
    this.#channel = null;
  }

  /** @param {"reconnect" | "wake"} kind */
  demand(kind) {
    this.#say({ kind });
    this.#leader?.[kind]();
  }

  /** @param {string} tab */
  #lockOf(tab) {
    return `${this.#name} ${tab}`;
  }

  /** @param {Message} message */
  #say(message) {
    this.#channel?.postMessage(message);
  }

  #greet() {
    this.#say({ kind: "hello", tab: this.#id, wants: this.#wants });
  }

  /** @param {{steal?: boolean}} [how] */
  async #elect({ steal = false } = {}) {
    const membership = /** @type {AbortController} */ (this.#membership);
    this.#queued?.abort();
    const queued = (this.#queued = new AbortController());
    membership.signal.addEventListener("abort", () => queued.abort());
    let hasLed = false;
    try {
      await navigator.locks.request(this.#name, steal ? { steal } : { signal: queued.signal }, () => {
        if (queued.signal.aborted) return;
        hasLed = true;
        this.#lead();
        return over(membership.signal);
      });
    } catch {
      // Stolen, or no longer wanted.
    }
    if (queued.signal.aborted) return;
    if (hasLed) this.#stepDown();
    this.#heardAt = Date.now();
    this.#elect();
  }

  #lead() {
    // By the clock, as this tab may have heard of no leader before.
    this.#term = Math.max(this.#term + 1, Date.now());
    const leader = (this.#leader = new Leader({
      url: this.#url,
      options: this.#options,
      tabs: this.#tabs,
      // Others are asked for on a connection that is there: what the hub refuses then concerns nobody else.
      admitted: [this.#id, ...this.#admitted],
      after: this.last,
      post: (message) => {
        this.#say({ ...message, term: this.#term });
        this.#attend(message);
      },
      onEnd: (error) => this.#hooks.onEnd(error),
    }));
    for (const tab of this.#tabs.keys()) this.#watch(tab);
    leader.beat();
  }

  #stepDown() {
    this.#leader?.close();
    this.#leader = null;
  }

  /**
   * Notices the end of a tab that says no goodbye.
   *
   * @param {string} tab
   */
  #watch(tab) {
    const signal = this.#membership?.signal;
    if (tab === this.#id || !signal) return;
    navigator.locks.request(this.#lockOf(tab), { signal }, () => this.#forget(tab)).catch(() => {});
  }

  /** @param {string} tab */
  #forget(tab) {
    if (this.#tabs.delete(tab)) this.#leader?.adjust();
  }

  #tick() {
    const silence = Date.now() - this.#heardAt;
    if (silence < QUIET) return;
    if (this.#leader) {
      this.#leader.beat();
    } else if (silence > SILENT && this.#isAsked) {
      this.#isAsked = false;
      this.#heardAt = Date.now();
      this.#steal();
    } else {
      // A hidden tab's clock may stand still for a minute, but it answers.
      this.#isAsked = true;
      this.#say({ kind: "ask" });
    }
  }

  /** Takes the lock from a tab that holds it and is stuck; one at a time. */
  #steal() {
    const signal = this.#membership?.signal;
    navigator.locks.request(`${this.#name} heir`, { ifAvailable: true }, async (lock) => {
      if (!lock || signal?.aborted !== false) return;
      this.#elect({ steal: true });
      await new Promise((resolve) => setTimeout(resolve, QUIET));
    });
  }

  /** @param {Message} message */
  #hear(message) {
    switch (message.kind) {
      case "hello":
        if (!this.#tabs.has(message.tab)) {
          this.#tabs.set(message.tab, message.wants);
          if (this.#leader) this.#watch(message.tab);
        }
        this.#leader?.adjust();
        break;
      case "bye":
        this.#forget(message.tab);
        break;
      case "ask":
        this.#leader?.beat();
        break;
      case "reconnect":
      case "wake":
        this.#leader?.[message.kind]();
        break;
      default:
        if (message.term < this.#term) return;
        this.#term = message.term;
        if (this.#leader) {
          // One that was stuck does not know yet that it has lost the lock. If that is this one, it will be told.
          this.#term += 1;
          this.#leader.beat();
        } else {
          this.#attend(message);
        }
    }
  }

  /** @param {Beat | Delivery} message */
  #attend(message) {
    this.#heardAt = Date.now();
    this.#isAsked = false;
    if (message.kind === "event") {
      const isMissing = message.after !== this.last;
      this.last = message.id;
      this.#hooks.onEvent(message, isMissing);
    } else {
      const isMissing = message.last !== this.last;
      this.last = message.last;
      if (message.away.includes(this.#id)) {
        this.#hooks.onAway();
        return;
      }
      if (message.tabs.length) this.#admitted = message.tabs;
      const isConnected = message.state === "open" || message.state === "polling";
      const isIn = isConnected && message.tabs.includes(this.#id);
      if (isConnected && !isIn && !this.#leader) this.#greet();
      this.#hooks.onBeat(message, isIn, isMissing);
    }
  }
}

/** @param {AbortSignal} signal */
function over(signal) {
  return new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
}

/**
 * Many tabs, one connection: what {@link SSEConnection} does, over a connection that all tabs of a browser share.
 *
 * To the tab it is a connection of its own. Under it lies no request but its part of the shared stream, written out as a stream of
 * events again; so everything above, from the ids that come twice to the iterators, is the same code.
 */

import { SSEConnection } from "./connection.js";
import { parsed } from "./error.js";
import { Group } from "./group.js";
import { isOlder, jobsOf, stateOf } from "./job.js";
import { ask, provided } from "./request.js";
import { onWake } from "./wake.js";
import { asking, chooser, parted } from "./wants.js";
import { block } from "./wire.js";

/** @import { ConnectionError } from "./error.js" */
/** @import { ConnectionOptions } from "./connection.js" */
/** @import { Beat, Delivery } from "./group.js" */

/**
 * @typedef {ConnectionOptions & {identity?: string}} SharedOptions
 *   `identity` says whose connection it is, for example the user's id: tabs share with tabs of the same identity only. If left out, that
 *   is whoever shows the same token and headers, and whose cookies are the same user's and session's to the hub.
 */

/** Bytes that a tab may have before it that nobody has read; of what comes then, it asks the hub later. */
const MAX_UNREAD = 1 << 20;
/** Events that are kept while a tab asks for what it missed; beyond that, it asks for these as well. */
const MAX_KEPT = 4096;
/** The hub answers a poll with no events when it has looked at so many that were not wanted. */
const POLL_LOOKS_AT = 65_536;
/** Milliseconds that the hub has to tell whose the cookies are. */
const TELL_WITHIN = 5000;
/** The longest wait in milliseconds, up to which they double, for another try to get what was missed. */
const MAX_DELAY = 30_000;

/**
 * A connection that all tabs of a browser share that have the same URL and identity.
 *
 * Each tab gets the events of its topics and `eventTypes`; the one connection asks the hub for those of all. Where a browser has no Web
 * Locks or no `BroadcastChannel`, and for a `ticket` without an `identity`, it is a connection of its own.
 *
 * @template {Record<string, any>} [Events=Record<string, any>] The events' data by type.
 * @extends {SSEConnection<Events>}
 */
export class SharedConnection extends SSEConnection {
  /** Whether it shares. @type {boolean} */
  isShared;
  #part;
  #own;

  /**
   * @param {string | URL} url
   * @param {SharedOptions} [options]
   */
  constructor(url, options = {}) {
    const part = canShare(options) ? new Part(String(url), options) : null;
    const { autoConnect, signal, ...others } = options;
    // What goes wrong on the shared connection is waited for there.
    const shared = { token: undefined, ticket: undefined, headers: undefined, maxRetries: undefined, pollAfter: 0, watchdog: Infinity };
    super(url, { ...others, autoConnect: false, ...(part && { ...shared, fetch: part.fetch }) });
    this.#part = part;
    this.#own = part && new SSEConnection(url, { ...others, autoConnect: false });
    this.isShared = part !== null;
    if (part) this.addEventListener("statechange", () => this.state === "closed" && part.leave());
    signal?.addEventListener("abort", () => this.disconnect());
    if (autoConnect !== false && !signal?.aborted) this.connect().catch(() => {});
  }

  /** Whether the connection of all is held by this tab; nothing that a page has to know. */
  get isLeading() {
    return this.#part?.isLeading ?? false;
  }

  reconnect() {
    if (this.state !== "closed") this.#part?.reconnect();
    return super.reconnect();
  }

  /** @param {Parameters<SSEConnection["send"]>[0]} message */
  send(message) {
    return this.#own ? this.#own.send(message) : super.send(message);
  }
}

/**
 * A stream that the tab reads. `at` is the id that it has got to.
 *
 * @typedef {object} Body
 * @property {ReadableStreamDefaultController<Uint8Array>} controller
 * @property {string} at
 * @property {boolean} isBehind Something is missing after `at`.
 * @property {URL[]} jobs Whose state it has to begin with.
 * @property {Map<string | symbol, Delivery> | null} kept What comes while it asks for that, by id.
 * @property {() => void} onRoom
 */

/** A tab's part of a shared connection, as a `fetch` that answers with it. */
class Part {
  #url;
  #options;
  #wants;
  #isWanted;
  /** The id to begin after, where the address names one. */
  #first;
  /** Whose cookies go along, in the hub's word: empty for nobody's. Null where they say nothing of who asks. @type {string | null} */
  #cookies = null;
  /** How many connections had no place for this tab; those that met the same share the next one. */
  #rank = 0;
  #group = /** @type {Group | null} */ (null);
  #body = /** @type {Body | null} */ (null);
  #isOpen = false;
  #connected = "{}";
  #refusal = /** @type {ConnectionError | null} */ (null);
  /** Called when one of these has changed. */
  #look = () => {};
  #isAsleep = false;
  #forgetPage = /** @type {(() => void) | null} */ (null);

  /**
   * @param {string} url
   * @param {SharedOptions} options
   */
  constructor(url, options) {
    const { url: address, wants, lastEventId } = parted(new URL(url, location.href), options);
    this.#url = address;
    this.#wants = wants;
    this.#isWanted = chooser(wants);
    this.#first = lastEventId;
    this.#options = options;
  }

  /** @type {typeof fetch} */
  fetch = async (_, { headers, signal } = {}) => {
    const gone = /** @type {AbortSignal} */ (signal);
    const isOver = () => gone.aborted;
    gone.addEventListener("abort", () => this.#look());
    while (!this.#isOpen || this.#isAsleep) {
      if (this.#refusal) return this.#refused(this.#refusal);
      const group = this.#group ?? (await this.#meet());
      if (isOver()) throw gone.reason;
      this.#group = group;
      this.#forgetPage ??= this.#watchPage();
      if (!this.#isAsleep) group.join();
      await new Promise((/** @type {(value?: unknown) => void} */ resolve) => (this.#look = () => resolve()));
      if (isOver()) throw gone.reason;
    }
    const from = decoded(/** @type {Record<string, string>} */ (headers)["Last-Event-ID"] ?? "") || this.#first;
    return this.#answer(from, gone);
  };

  get isLeading() {
    return this.#group?.isLeading ?? false;
  }

  leave() {
    this.#forgetPage?.();
    this.#group?.leave();
    this.#group = this.#body = this.#refusal = this.#forgetPage = this.#cookies = null;
    this.#isOpen = false;
    this.#rank = 0;
  }

  reconnect() {
    this.#isOpen = false;
    this.#group?.demand("reconnect");
  }

  async #meet() {
    const { identity, token, headers } = this.#options;
    const whose = identity === undefined ? { token: await provided(token), headers: await provided(headers) } : { identity };
    if (mayShowCookies(this.#url, this.#options, whose)) this.#cookies ??= await this.#ownCookies();
    return new Group({
      name: await nameOf(this.#url, [whose, this.#options.withCredentials ?? false, this.#cookies, this.#rank]),
      url: this.#url,
      options: this.#options,
      wants: this.#wants,
      hooks: {
        onEvent: (delivery, isMissing) => this.#take(delivery, isMissing),
        onBeat: (beat, isIn, isMissing) => this.#follow(beat, isIn, isMissing),
        onAway: () => this.#moveOn(this.#rank + 1),
        onEnd: (error) => this.#end(error),
      },
    });
  }

  /** Whose cookies go along. Where no answer tells that, the first event of the stream does. */
  async #ownCookies() {
    try {
      const request = { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(TELL_WITHIN) };
      const answer = await ask(this.#options, this.#pollUrl(), request);
      return identityIn(answer.ok ? await answer.text() : "");
    } catch {
      return "";
    }
  }

  /**
   * Whether the stream is another's than the user's with whose cookies this tab came, as after a login; the tab then looks for its own.
   *
   * @param {string} connected What the first event of the stream says; empty where there was none yet.
   */
  #isAnothers(connected) {
    if (this.#cookies === null || !connected || this.#cookies === identityIn(connected)) return false;
    this.#cookies = identityIn(connected);
    this.#moveOn(0);
    return true;
  }

  /** A page that sleeps must hold nothing that others wait for, and cannot hear them. */
  #watchPage() {
    const sleep = () => {
      this.#isAsleep = true;
      this.#isOpen = false;
      this.#group?.leave();
      this.#close();
    };
    const wake = () => {
      this.#isAsleep = false;
      this.#look();
    };
    /** @type {[EventTarget, string, () => void][]} */
    const heard = [
      [document, "freeze", sleep],
      [document, "resume", wake],
      [window, "pagehide", sleep],
      [window, "pageshow", wake],
    ];
    for (const [target, type, listener] of heard) target.addEventListener(type, listener);
    const forget = onWake((_, isLate) => this.#group?.demand(isLate ? "reconnect" : "wake"));
    return () => {
      forget();
      for (const [target, type, listener] of heard) target.removeEventListener(type, listener);
    };
  }

  /**
   * @param {string} from
   * @param {AbortSignal} signal
   */
  #answer(from, signal) {
    const last = this.#group?.last ?? "";
    /** @type {Body} */
    const body = {
      controller: /** @type {any} */ (null),
      at: from || last,
      isBehind: from !== "" && from !== last,
      jobs: from === "" ? jobsOf(this.#url, this.#wants) : [],
      kept: null,
      onRoom() {},
    };
    const stream = new ReadableStream(
      {
        start: (controller) => {
          body.controller = controller;
        },
        pull: () => {
          body.onRoom();
          this.#catchUp();
        },
      },
      new ByteLengthQueuingStrategy({ highWaterMark: MAX_UNREAD }),
    );
    this.#body = body;
    signal.addEventListener("abort", () => {
      if (this.#body === body) this.#body = null;
      body.controller.error(signal.reason);
      body.onRoom();
    });
    write(body, { type: "connected", data: this.#connected, id: body.at, hasId: body.at !== "" });
    this.#catchUp();
    return new Response(stream, { headers: { "Content-Type": "text/event-stream" } });
  }

  /**
   * What the shared connection met, as an answer to this tab.
   *
   * @param {ConnectionError} error
   */
  #refused({ status, code, message }) {
    this.#refusal = null;
    this.#group?.leave();
    if (status === 204) return new Response(null, { status });
    // No `Response` may have every status, and none is one that is tried again.
    const body = JSON.stringify({ detail: message, code });
    const isFinal = { ok: false, status: status >= 400 && status < 500 ? status : 0, statusText: "", headers: new Headers() };
    return /** @type {Response} */ (/** @type {unknown} */ ({ ...isFinal, body: null, text: async () => body }));
  }

  /** @param {number} rank */
  #moveOn(rank) {
    this.#rank = rank;
    this.#isOpen = false;
    this.#group?.leave();
    this.#group = null;
    this.#close();
    this.#look();
  }

  /** @param {ConnectionError} error */
  #end(error) {
    this.#refusal = error;
    this.#isOpen = false;
    // Another tab may have a token that is still good.
    this.#group?.leave();
    this.#close(error);
    this.#look();
  }

  /** @param {{status: number, code: string, message: string}} [error] */
  #close(error) {
    const body = this.#body;
    this.#body = null;
    if (!body) return;
    if (error) {
      const { status, code, message: detail } = error;
      write(body, { type: "unavailable", data: JSON.stringify({ status, code, detail }), id: "", hasId: false });
    }
    body.controller.close();
    body.onRoom();
  }

  /**
   * @param {Beat} beat
   * @param {boolean} isIn
   * @param {boolean} isMissing
   */
  #follow({ state, connected, error }, isIn, isMissing) {
    if (this.#isAnothers(connected)) return;
    this.#isOpen = isIn;
    this.#connected = connected || "{}";
    const body = this.#body;
    const isConnected = state === "open" || state === "polling";
    if (body && (isMissing || (isConnected && !isIn))) body.isBehind = true;
    // A refused token is renewed at once.
    if (state === "waiting" && error && error.status !== 401 && error.status !== 403) this.#close(error);
    if (isIn) {
      this.#look();
      this.#catchUp();
    }
  }

  /**
   * @param {Delivery} delivery
   * @param {boolean} isMissing
   */
  #take(delivery, isMissing) {
    if (delivery.type === "connected" && this.#isAnothers(delivery.data)) return;
    const body = this.#body;
    if (!body) return;
    if (isMissing) body.isBehind = true;
    // Of what this tab does not want it is told where the stream is.
    if (delivery.type === "connected" || !this.#isWanted(delivery)) delivery = { ...delivery, type: "", data: "" };
    if (body.kept && body.kept.size < MAX_KEPT) {
      body.kept.set(delivery.hasId ? delivery.id : Symbol(), delivery);
    } else if (body.kept || body.isBehind || (body.controller.desiredSize ?? 0) <= 0) {
      body.isBehind = true;
    } else {
      this.#pass(body, delivery);
    }
    this.#catchUp();
  }

  /**
   * @param {Body} body
   * @param {Delivery} delivery
   */
  #pass(body, delivery) {
    write(body, delivery);
    body.at = delivery.id;
  }

  /** Gets what is missing from the hub, while what comes is kept for after it. */
  async #catchUp() {
    const body = this.#body;
    const isMissing = () => body !== null && (body.isBehind || body.jobs.length > 0);
    if (!body || !isMissing() || body.kept || !this.#isOpen || (body.controller.desiredSize ?? 0) <= 0) return;
    while (isMissing() && this.#isOpen && this.#body === body) {
      body.kept = new Map();
      if (body.jobs.length) await this.#begin(body, body.jobs.splice(0));
      if (!body.isBehind || this.#body !== body) continue;
      body.isBehind = false;
      await this.#missed(body);
    }
    if (this.#body !== body) return;
    const kept = body.kept ?? [];
    body.kept = null;
    // What is kept after something that is missing has to be asked for, too.
    if (body.isBehind) return;
    for (const delivery of kept.values()) this.#pass(body, delivery);
  }

  /**
   * @param {Body} body
   * @param {URL[]} jobs
   */
  async #begin(body, jobs) {
    const hasLongNames = /\/sse(\/events)?\/?$/.test(this.#url.pathname);
    const states = await Promise.all(jobs.map((job) => stateOf(this.#options, job, hasLongNames, this.#wants.types)));
    if (this.#body !== body) return;
    for (const state of states) {
      if (!state) continue;
      write(body, state);
      for (const [key, { data }] of body.kept ?? []) if (isOlder(data, state.data)) body.kept?.delete(key);
    }
  }

  /** @param {Body} body */
  async #missed(body) {
    for (let failures = 0; this.#body === body; ) {
      const answer = await this.#poll(body.at);
      if (this.#body !== body) return;
      if (answer === "later") {
        failures += 1;
        const delay = Math.random() * Math.min(MAX_DELAY, 500 * 2 ** failures);
        await new Promise((resolve) => setTimeout(resolve, delay));
        continue;
      }
      failures = 0;
      const { events, position, gap, gap_reason: reason } = answer ?? { events: [], position: "", gap: true, gap_reason: "unreachable" };
      if (gap) write(body, { type: "gap", data: JSON.stringify({ from: body.at, reason }), id: position, hasId: position !== "" });
      for (const { id, event: type, data } of events) {
        body.kept?.delete(id);
        write(body, { type, data, id, hasId: true });
      }
      const isEnd = !answer || (events.length === 0 && isNear(body.at, position));
      if (position) {
        body.at = position;
        write(body, { type: "", data: "", id: position, hasId: true });
      }
      if (isEnd) return;
      if ((body.controller.desiredSize ?? 0) <= 0) {
        await new Promise((/** @type {(value?: unknown) => void} */ resolve) => (body.onRoom = () => resolve()));
      }
    }
  }

  #pollUrl() {
    const url = asking(new URL(this.#options.pollUrl ?? this.#url.href, this.#url), this.#wants);
    if (!this.#options.pollUrl) url.pathname = url.pathname.replace(/\/?$/, "/poll");
    return url;
  }

  /**
   * @param {string} after
   * @returns {Promise<{events: {id: string, event: string, data: string}[], position: string, gap: boolean, gap_reason?: string}
   *   | "later" | null>} Null when it is refused for good.
   */
  async #poll(after) {
    const url = this.#pollUrl();
    url.searchParams.set("after", after);
    try {
      const answer = await ask(this.#options, url, { headers: { Accept: "application/json" } });
      if (answer.ok) return await answer.json();
      await answer.body?.cancel();
      return answer.status === 429 || answer.status >= 500 ? "later" : null;
    } catch {
      return "later";
    }
  }
}

/** @param {SharedOptions} options */
function canShare({ ticket, identity, method = "GET", body }) {
  const isPage = typeof document === "object" && typeof BroadcastChannel === "function";
  const canLock = Boolean(globalThis.navigator?.locks && globalThis.crypto?.subtle);
  return isPage && canLock && method === "GET" && !body && (!ticket || identity !== undefined);
}

/**
 * Whether a browser sends cookies along that say who asks.
 *
 * @param {URL} url
 * @param {SharedOptions} options
 * @param {{token?: string, headers?: Record<string, string>}} shown
 */
function mayShowCookies(url, { identity, withCredentials }, { token, headers = {} }) {
  if (identity !== undefined || token || Object.keys(headers).some((name) => /^authorization$/i.test(name))) return false;
  return withCredentials || url.origin === location.origin;
}

/**
 * Who the hub takes the asker for.
 *
 * @param {string} json
 */
function identityIn(json) {
  return String(parsed(json)?.identity ?? "");
}

/**
 * The name of the lock and the channel, with the version of what goes over it. A token is in it as part of a hash only.
 *
 * @param {URL} url
 * @param {unknown[]} whose Whose stream it is, and which of theirs.
 */
async function nameOf(url, whose) {
  const parameters = [...url.searchParams].map((pair) => pair.join("=")).sort();
  const bytes = new TextEncoder().encode(JSON.stringify([whose, parameters]));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).subarray(0, 16);
  return `sse/2 ${url.origin}${url.pathname} ${Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * Whether a poll that found nothing has looked at everything there is.
 *
 * @param {string} after
 * @param {string} position
 */
function isNear(after, position) {
  const [epoch, offset] = position.split("-");
  const [before, from] = after.split("-");
  return before === epoch && Number(offset) - Number(from) < POLL_LOOKS_AT;
}

/**
 * @param {Body} body
 * @param {Parameters<typeof block>[0]} event
 */
function write({ controller }, event) {
  controller.enqueue(new TextEncoder().encode(block(event)));
}

/**
 * An id as the connection has put it into a header: its UTF-8.
 *
 * @param {string} header
 */
function decoded(header) {
  return new TextDecoder().decode(Uint8Array.from(header, (character) => character.charCodeAt(0)));
}

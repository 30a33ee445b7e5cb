/**
 * A stream of events that stays: an `EventSource` on fetch, with headers, resuming, waiting, polling and an end that is told.
 */

import { Decoder } from "./decoder.js";
import { ConnectionError, TEMPORARY, isRefusal, parsed, refusal } from "./error.js";
import { EventQueue } from "./queue.js";
import { onWake } from "./wake.js";

/** @import { DecodedEvent } from "./decoder.js" */

/**
 * Where a connection stands. `waiting` knows when it tries again, `polling` reads the same events without a stream, `closed` is for good.
 *
 * @typedef {"connecting" | "open" | "waiting" | "polling" | "closed"} State
 */

/**
 * A text, or what gives it before each attempt. `renew` says that the one before was refused.
 *
 * @typedef {string | ((renew: boolean) => string | Promise<string>)} Provider
 */

/**
 * @typedef {object} ConnectionOptions
 * @property {string[]} [topics] Topics or patterns of topics to read.
 * @property {string[]} [eventTypes] The types of events to read; all, if left out.
 * @property {Provider} [token] A bearer token, asked for before each attempt, and once more after a 401 or 403.
 * @property {Provider} [ticket] A ticket in the URL, asked for before each attempt.
 * @property {Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>)} [headers] More headers.
 * @property {string} [method] GET, if left out. Another method is not sent again once an answer had begun, unless `repeat` is set.
 * @property {BodyInit | null} [body] What is sent with it, on each attempt the same.
 * @property {boolean} [repeat] Send a request that is no GET again after a stream that broke.
 * @property {boolean} [withCredentials] Send cookies to another origin, too.
 * @property {AbortSignal} [signal] Closes the connection.
 * @property {string} [lastEventId] The id to begin after.
 * @property {string} [storageKey] Keep the last id in `sessionStorage` under this name, so that a page that is loaded again goes on.
 * @property {number} [maxRetries] Failed attempts in a row after which it gives up; never, if left out.
 * @property {number} [baseDelay] Milliseconds: the longest wait after the first failure; it doubles with each one. 1000.
 * @property {number} [maxDelay] Milliseconds that no wait is longer than, unless the server asks for it. 30000.
 * @property {number} [watchdog] Milliseconds without a byte after which the connection counts as dead; 0 for never. 45000.
 * @property {number} [pollAfter] Failed attempts in a row after which it polls; 0 for never. 3.
 * @property {number} [pollFor] Milliseconds after which it tries the stream again while it polls. 60000.
 * @property {string} [pollUrl] Where it polls: `…/poll` of the stream's URL, if left out.
 * @property {string} [publishUrl] Where `send` publishes to: the stream's URL without its query, if left out.
 * @property {number} [duplicates] As many ids are remembered to drop events that come twice. 1000.
 * @property {boolean} [autoConnect] Connect at once. True.
 * @property {typeof fetch} [fetch] Used instead of `fetch`.
 * @property {() => number} [random] Used instead of `Math.random`.
 */

/** As long as a poll waits, in seconds: less than the minute after which many proxies give up. */
const POLL_WAIT = 25;

/**
 * One stream of events, over as many connections as it takes.
 *
 * It is an `EventTarget`: each event of the stream is a `MessageEvent` of its type, as with `EventSource`. Besides there are `open`,
 * `statechange`, and `error` for the connection's own troubles (an `ErrorEvent`-like event with `error`). An event of the stream that
 * is called `error`, as failed jobs have it, comes to `on("error")` and to listeners, and not to `onerror`.
 *
 * @template {Record<string, any>} [Events=Record<string, any>] The events' data by type.
 */
export class SSEConnection extends EventTarget {
  static CONNECTING = /** @type {const} */ (0);
  static OPEN = /** @type {const} */ (1);
  static CLOSED = /** @type {const} */ (2);

  /** @type {((event: Event) => void) | null} */
  onopen = null;
  /** @type {((event: MessageEvent) => void) | null} */
  onmessage = null;
  /** @type {((event: Event & {error: ConnectionError}) => void) | null} */
  onerror = null;
  /** Hears every event of the stream, whatever its type. @type {((event: MessageEvent) => void) | null} */
  onevent = null;

  /** @type {State} */
  state = "closed";
  /** When it tries again, as `Date.now()` has it, where the state is `waiting`. @type {number | null} */
  retryAt = null;
  /** Failed attempts in a row. */
  attempt = 0;
  /** What went wrong last; null while it is connected. @type {ConnectionError | null} */
  error = null;

  #options;
  #decoder;
  #handlers = /** @type {Map<string, Map<Function, EventListener>>} */ (new Map());
  #abort = /** @type {AbortController | null} */ (null);
  #wake = /** @type {(() => void) | null} */ (null);
  #opened = /** @type {Opened | null} */ (null);
  /** The run that is under way; one that was ended does nothing more. @type {object | null} */
  #current = null;
  #retry = 0;
  #lastByte = 0;
  #isPaused = false;
  #openSince = 0;
  /** Events of this connection. */
  #events = 0;
  /** Where the stream is from, after redirects; empty where `fetch` does not tell. */
  #from = "";
  #canPoll = true;
  #isRefused = false;
  #seen = /** @type {Set<string>} */ (new Set());
  /** Done when what is being decompressed is delivered; whoever closes before goes on after `#delivered`. @type {Promise<void> | null} */
  #inflating = null;
  #delivered = "";
  #iterators = /** @type {Set<EventQueue>} */ (new Set());
  #unavailable = /** @type {ConnectionError | null} */ (null);

  /**
   * @param {string | URL} url
   * @param {ConnectionOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#options = {
      method: "GET",
      repeat: false,
      maxRetries: Infinity,
      baseDelay: 1000,
      maxDelay: 30_000,
      watchdog: 45_000,
      pollAfter: 3,
      pollFor: 60_000,
      duplicates: 1000,
      fetch: globalThis.fetch,
      random: Math.random,
      ...options,
    };
    /** The stream's address, with its topics and types. */
    this.url = withParameters(String(url), options);
    this.withCredentials = options.withCredentials ?? false;
    this.#decoder = this.#after(options.lastEventId ?? stored(options.storageKey) ?? "");
    options.signal?.addEventListener("abort", () => this.disconnect());
    if (options.autoConnect !== false && !options.signal?.aborted) this.connect().catch(() => {});
  }

  /** @param {string} lastEventId */
  #after(lastEventId) {
    this.#delivered = lastEventId;
    return new Decoder(
      {
        onEvent: (event) => this.#receive(event),
        onRetry: (milliseconds) => (this.#retry = milliseconds),
      },
      { lastEventId },
    );
  }

  /** As an `EventSource` has it: 0 until it is open, 1 while it is, 2 when it is closed for good. */
  get readyState() {
    if (this.state === "closed") return SSEConnection.CLOSED;
    return this.isConnected() ? SSEConnection.OPEN : SSEConnection.CONNECTING;
  }

  /** The id of the last event; a connection goes on after it. */
  get lastEventId() {
    return this.#decoder.lastEventId;
  }

  /** Whether events come, by a stream or by polling. */
  isConnected() {
    return this.state === "open" || this.state === "polling";
  }

  /**
   * Connects, unless it is connected; done when events come.
   *
   * @returns {Promise<void>} Rejected with a {@link ConnectionError} when it gives up or is closed before that.
   */
  connect() {
    if (this.isConnected()) return Promise.resolve();
    const opened = this.#whenOpen();
    if (this.state === "closed") {
      this.attempt = 0;
      this.#isRefused = false;
      this.#run().catch((error) => this.#end(error));
    }
    return opened;
  }

  /** Ends it. Nothing comes after this; `connect` begins again after the last event. */
  disconnect() {
    if (this.state !== "closed") this.#end(new ConnectionError("it was closed", { code: "closed", isFinal: true }), true);
  }

  /** The same, as an `EventSource` calls it. */
  close() {
    this.disconnect();
  }

  /** Connects anew, after the last event, whatever the state. @returns {Promise<void>} */
  reconnect() {
    if (this.state === "closed") return this.connect();
    const opened = this.#whenOpen();
    this.attempt = 0;
    this.#set("connecting");
    this.#interrupt();
    return opened;
  }

  /** Done when it is open next. */
  #whenOpen() {
    if (!this.#opened) {
      const opened = (this.#opened = /** @type {any} */ ({}));
      opened.promise = new Promise((resolve, reject) => Object.assign(opened, { resolve, reject }));
      // Whoever does not wait for it hears of errors as events.
      opened.promise.catch(() => {});
    }
    return /** @type {Opened} */ (this.#opened).promise;
  }

  /**
   * Publishes a message: `{event, data, topic, …}`, as the hub's `POST /events` takes it.
   *
   * @param {{event?: string, data: unknown, topic?: string, [field: string]: unknown}} message
   * @returns {Promise<{id: string, position: string}>} What the hub says once the message is safe.
   */
  async send(message) {
    const url = this.#options.publishUrl ?? this.url.replace(/[?#].*/s, "");
    const { "Content-Type": _, ...headers } = await this.#headers(false);
    const answer = await this.#fetch(url, {
      method: "POST",
      headers: { ...headers, "Content-Type": "application/json" },
      body: JSON.stringify(message),
    });
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  }

  /**
   * Calls a handler with the data of each event of a type; JSON is parsed.
   *
   * @template {keyof Events & string} Type
   * @param {Type} type
   * @param {(data: Events[Type], event: MessageEvent) => void} handler
   * @returns {() => void} Takes the handler away.
   */
  on(type, handler) {
    const listener = (/** @type {Event} */ event) => {
      if (event instanceof MessageEvent) handler(/** @type {any} */ (parsed(event.data)), event);
    };
    const ofType = this.#handlers.get(type) ?? new Map();
    if (!ofType.has(handler)) {
      this.#handlers.set(type, ofType.set(handler, listener));
      this.addEventListener(type, listener);
    }
    return () => this.off(type, handler);
  }

  /**
   * Takes a handler away, or all of a type.
   *
   * @template {keyof Events & string} Type
   * @param {Type} type
   * @param {(data: Events[Type], event: MessageEvent) => void} [handler]
   */
  off(type, handler) {
    const ofType = this.#handlers.get(type) ?? new Map();
    for (const [known, listener] of [...ofType]) {
      if (handler && known !== handler) continue;
      this.removeEventListener(type, listener);
      ofType.delete(known);
    }
  }

  /**
   * The events in order, up to the end. A reader that is slow stops the stream, and the server notices.
   *
   * @returns {AsyncGenerator<MessageEvent, void, void>} Throws the {@link ConnectionError} with which it gave up.
   */
  async *[Symbol.asyncIterator]() {
    const queue = new EventQueue();
    this.#iterators.add(queue);
    try {
      for (;;) {
        const event = queue.events.shift();
        if (event) {
          yield event;
        } else if (queue.isEnded || this.state === "closed") {
          if (queue.error) throw queue.error;
          return;
        } else {
          await queue.wait();
        }
      }
    } finally {
      this.#iterators.delete(queue);
      queue.release?.();
    }
  }

  async #run() {
    const own = (this.#current = {});
    this.#set("connecting");
    const forget = onWake((isDead) => this.#awake(isDead), () => this.#look());
    try {
      while (this.#current === own) {
        const error = await this.#read();
        if (error && this.#current === own) await this.#fail(error);
      }
    } finally {
      forget();
    }
  }

  /** Reads, until that ends, fails or is silent; what was wrong with it, or nothing when it was interrupted for another try. */
  async #read() {
    const abort = (this.#abort = new AbortController());
    const { signal } = abort;
    this.#unavailable = null;
    this.#openSince = Infinity;
    this.#events = 0;
    this.#lastByte = Date.now();
    try {
      return await (this.#polls() ? this.#poll(signal) : this.#stream(signal));
    } catch (cause) {
      const error = signal.reason ?? new ConnectionError(`the connection failed: ${cause}`, { cause });
      if (this.state === "closed" || error.name === "AbortError") return null;
      return this.#broken(error);
    } finally {
      abort.abort();
    }
  }

  /** Each second. */
  #look() {
    this.#prove();
    if (this.#isSilent() && !this.#isPaused) {
      this.#abort?.abort(new ConnectionError(`nothing came for ${this.#options.watchdog} ms`, { code: "silent" }));
    }
    // By the clock on the wall, which goes on while a machine sleeps.
    if (this.retryAt && Date.now() >= this.retryAt) this.#wake?.();
  }

  #isSilent() {
    const { watchdog } = this.#options;
    return watchdog > 0 && Date.now() - this.#lastByte > watchdog;
  }

  /** Ten seconds of a stream, or sixteen events, begin the count of failures anew. */
  #prove() {
    if (this.#events > 15 || Date.now() - this.#openSince > 1e4) this.attempt = 0;
  }

  #polls() {
    const { pollAfter, method } = this.#options;
    if (pollAfter <= 0 || this.attempt < pollAfter || method !== "GET" || this.#isRefused || !this.#canPoll) return false;
    // In turn with the stream, which may be back before the polls are.
    return (this.attempt - pollAfter) % 2 === 0;
  }

  /** @param {AbortSignal} signal */
  async #stream(signal) {
    const { method, body } = this.#options;
    const answer = await this.#ask(this.url, { method, body }, signal);
    if (answer.status === 204) return new ConnectionError("nothing more comes", { status: 204, isFinal: true });
    const type = answer.headers.get("content-type") ?? "";
    const isStream = /^text\/event-stream\s*(;|$)/i.test(type);
    if (answer.status !== 200 || !isStream || !answer.body) {
      const error = await refusal(answer);
      // A page instead of a stream is a proxy's while the hub is away.
      if (answer.ok) error.message = `no event stream but ${type}`;
      else error.isFinal = !TEMPORARY.includes(answer.status);
      return error;
    }
    this.#decoder.begin();
    this.#openSince = Date.now();
    this.#from = answer.url;
    this.#set("open");
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      this.#decoder.feed(value);
      if (signal.aborted) return null;
      await this.#room();
    }
    return this.#unavailable ?? this.#broken(new ConnectionError("the stream ended"));
  }

  /** A request that is no GET is not sent again once an answer had begun. @param {ConnectionError} error */
  #broken(error) {
    error.isFinal = this.#openSince < Infinity && !this.#mayRepeat();
    return error;
  }

  #mayRepeat() {
    return this.#options.method === "GET" || this.#options.repeat;
  }

  /** Reads the same events without a stream, until it is time to try that again. @param {AbortSignal} signal */
  async #poll(signal) {
    const until = Date.now() + this.#options.pollFor;
    do {
      const after = this.lastEventId;
      const wait = this.state === "polling" ? POLL_WAIT : 0;
      const url = new URL(this.#options.pollUrl ?? this.url.replace(/(\/?)(?=[?#]|$)/, "/poll"), base());
      if (after) url.searchParams.set("after", after);
      url.searchParams.set("wait", String(wait));
      // It is silent as long as it waits.
      this.#lastByte = Date.now() + wait * 1000;
      const answer = await this.#ask(url.href, { method: "GET" }, signal);
      if (!answer.ok) {
        const error = await refusal(answer);
        // Another server's streams may have no polls beside them.
        this.#canPoll = TEMPORARY.includes(answer.status);
        return error;
      }
      const { events, position = after, gap, gap_reason: reason } = await answer.json();
      this.#set("polling");
      if (gap) this.#receive({ type: "gap", data: JSON.stringify({ reason }), lastEventId: position, hasId: false });
      for (const { event, data, id } of events) {
        this.#receive({ type: event, data, lastEventId: id, hasId: true });
      }
      await this.#room();
      if (signal.aborted) return null;
      this.#decoder.lastEventId = position;
      stored(this.#options.storageKey, position);
      // A server that does not wait is not asked without end.
      if (wait > 0 && position === after) await this.#pause(1000);
    } while (Date.now() < until);
    // One try of the stream; if it fails, the next is a poll again.
    this.attempt = this.#options.pollAfter - 1;
    return null;
  }

  /**
   * @param {string} url
   * @param {RequestInit} request
   * @param {AbortSignal} signal
   */
  async #ask(url, request, signal) {
    const send = async (/** @type {boolean} */ renew) => {
      const headers = await this.#headers(renew);
      const target = new URL(url, base());
      const id = this.lastEventId;
      // A header carries the id's UTF-8. What no header can carry goes into the URL.
      if (id && !/[\0-\x1f\x7f]/.test(id)) headers["Last-Event-ID"] = String.fromCharCode(...new TextEncoder().encode(id));
      else if (id) target.searchParams.set("last_event_id", id);
      const { ticket } = this.#options;
      if (ticket) target.searchParams.set("ticket", await provided(ticket, renew));
      return this.#fetch(target.href, {
        ...request,
        headers,
        signal,
        cache: "no-store",
      });
    };
    const answer = await send(this.#isRefused);
    if (!isRefusal(answer) || this.#isRefused || !this.#canRenew()) return answer;
    await answer.body?.cancel();
    return send(true);
  }

  #canRenew() {
    const { token, ticket } = this.#options;
    return typeof token === "function" || typeof ticket === "function";
  }

  /**
   * @param {string} url
   * @param {RequestInit} request
   */
  #fetch(url, request) {
    // Not as a method of the options.
    const { fetch } = this.#options;
    return fetch(url, { ...request, credentials: this.withCredentials ? "include" : "same-origin" });
  }

  /** @param {boolean} renew */
  async #headers(renew) {
    const { headers, token } = this.#options;
    const given = typeof headers === "function" ? await headers() : headers;
    /** @type {Record<string, string>} */
    const all = { Accept: "text/event-stream", ...given };
    if (token) all.Authorization = `Bearer ${await provided(token, renew)}`;
    return all;
  }

  /**
   * One more failure: waits, or gives up.
   *
   * @param {ConnectionError} error
   */
  async #fail(error) {
    const { maxRetries, baseDelay, maxDelay, random } = this.#options;
    this.#isRefused = isRefusal(error);
    // The hub said on the stream that the credential is over: a new one may be had, once.
    const renews = this.#isRefused && this.#canRenew() && error === this.#unavailable && Date.now() - this.#openSince > 1000;
    this.#prove();
    this.attempt += 1;
    error.isFinal ||= (this.#isRefused && !renews) || this.attempt > maxRetries;
    if (error.isFinal) return this.#end(error);
    const longest = Math.min(maxDelay, Math.max(this.#retry, baseDelay) * 2 ** (this.attempt - 1));
    // No server is waited for longer than a day.
    const asked = Math.min(864e5, Math.max(error.retryAfter, error === this.#unavailable ? this.#retry : 0));
    // Full jitter. What the server asks for is never undercut, and spread.
    const delay = renews ? 0 : asked ? asked * (1 + random() / 2) : random() * longest;
    this.error = error;
    this.retryAt = Date.now() + delay;
    this.#tell(error);
    if (this.state === "closed") return;
    this.#set("waiting");
    await this.#pause(delay);
    this.retryAt = null;
    if (/** @type {State} */ (this.state) !== "closed") this.#set(this.#polls() ? "waiting" : "connecting");
  }

  /** @param {number} delay */
  #pause(delay) {
    return new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
      const timer = setTimeout(
        (this.#wake = () => {
          clearTimeout(timer);
          resolve();
        }),
        delay,
      );
    });
  }

  /**
   * @param {ConnectionError} error
   * @param {boolean} [isWanted]
   */
  #end(error, isWanted = false) {
    if (this.state === "closed") return;
    this.#current = null;
    // What was read together with the last event, and is not delivered, comes again after it.
    this.#decoder = this.#after(this.#inflating ? this.#delivered : this.lastEventId);
    this.error = isWanted ? null : error;
    this.#set("closed");
    this.#interrupt();
    for (const queue of this.#iterators) queue.end(isWanted || error.status === 204 ? null : error);
    this.#opened?.reject(error);
    this.#opened = null;
    if (!isWanted && error.status !== 204) this.#tell(error);
  }

  #interrupt() {
    this.#abort?.abort();
    this.#wake?.();
    for (const queue of this.#iterators) queue.release?.();
  }

  /** @param {ConnectionError} error */
  #tell(error) {
    const event = Object.assign(new Event("error"), { error });
    this.dispatchEvent(event);
    this.#call(this.onerror, event);
  }

  /** @param {State} state */
  #set(state) {
    if (this.state === state) return;
    this.state = state;
    if (this.isConnected()) {
      this.error = null;
      this.#isRefused = false;
      this.#opened?.resolve();
      this.#opened = null;
      const event = new Event("open");
      this.dispatchEvent(event);
      this.#call(this.onopen, event);
    }
    this.dispatchEvent(new Event("statechange"));
  }

  /**
   * Calls a handler. One that throws is reported as a rejection that nobody handles, and the stream goes on.
   *
   * @param {Function | null} handler
   * @param {Event} event
   */
  async #call(handler, event) {
    handler?.call(this, event);
  }

  /** @param {DecodedEvent} event */
  #receive(event) {
    const message = event.data.startsWith('{"compressed"') && parsed(event.data);
    const isCompressed = message.encoding === "gzip" && typeof message.data === "string";
    if (!isCompressed && !this.#inflating) return this.#deliver(event);
    // What comes behind one that is still being decompressed waits for it.
    const work = Promise.resolve(this.#inflating)
      .then(async () => {
        if (!isCompressed) return event.data;
        const { inflated } = await import("./inflate.js");
        return inflated(message.data);
      })
      .catch(() => event.data)
      .then((data) => {
        if (this.#inflating === work) this.#inflating = null;
        this.#deliver({ ...event, data });
      });
    this.#inflating = work;
  }

  /** @param {DecodedEvent} event */
  #deliver({ type, data, lastEventId, hasId }) {
    if (this.state === "closed") return;
    if (type === "unavailable") {
      const { status, code, detail } = parsed(data) ?? {};
      this.#unavailable = new ConnectionError(detail ?? type, { status, code });
      return;
    }
    const isOfHub = ["connected", "gap", "ping"].includes(type);
    if (hasId && !isOfHub && this.#isSeen(lastEventId)) return;
    if (!isOfHub) this.#events += 1;
    this.#delivered = lastEventId;
    if (hasId) stored(this.#options.storageKey, lastEventId);
    const event = new MessageEvent(type, { data, lastEventId, origin: new URL(this.#from || this.url, base()).origin });
    this.dispatchEvent(event);
    if (type === "message") this.#call(this.onmessage, event);
    this.#call(this.onevent, event);
    for (const queue of this.#iterators) queue.push(event);
  }

  /** @param {string} id */
  #isSeen(id) {
    if (this.#seen.has(id)) return true;
    this.#seen.add(id);
    if (this.#seen.size > this.#options.duplicates) {
      const [oldest] = this.#seen;
      this.#seen.delete(oldest);
    }
    return false;
  }

  /** Waits while an iterator has 256 events that nobody reads. */
  async #room() {
    await this.#inflating;
    for (const queue of this.#iterators) {
      while (queue.events.length > 256 && this.#iterators.has(queue) && this.state !== "closed") {
        this.#isPaused = true;
        await new Promise((/** @type {(value?: unknown) => void} */ resolve) => (queue.release = resolve));
      }
    }
    this.#isPaused = false;
    this.#lastByte = Date.now();
  }

  /** Tries again at once when the network is back, or when the page or the machine wakes. @param {boolean} isDead */
  #awake(isDead) {
    if (this.state === "waiting" || ((isDead || this.#isSilent()) && this.#mayRepeat())) {
      setTimeout(() => this.#interrupt(), 500 * this.#options.random());
    }
  }
}

/** @typedef {{promise: Promise<void>, resolve: () => void, reject: (error: unknown) => void}} Opened */

/**
 * @param {string} url
 * @param {ConnectionOptions} options
 */
function withParameters(url, { topics = [], eventTypes = [] }) {
  const parameters = topics.map((topic) => `topic=${encodeURIComponent(topic)}`);
  if (eventTypes.length) parameters.push(`event_types=${eventTypes.map(encodeURIComponent).join(",")}`);
  if (!parameters.length) return url;
  return `${url}${url.includes("?") ? "&" : "?"}${parameters.join("&")}`;
}

function base() {
  return globalThis.location?.href ?? "http://localhost";
}

/**
 * @param {Provider} provider
 * @param {boolean} renew
 */
async function provided(provider, renew) {
  return typeof provider === "function" ? provider(renew) : provider;
}

/**
 * Reads an id that was stored, or stores one. Without storage a page that is loaded again begins anew.
 *
 * @param {string | undefined} key
 * @param {string} [id]
 * @returns {string | null | void}
 */
function stored(key, id) {
  try {
    if (key) return id === undefined ? sessionStorage.getItem(key) : sessionStorage.setItem(key, id);
  } catch {
    // There is none.
  }
}

// Each client behind the same few words. What a client offers under another name is used; what it does not offer is told as a note.

/**
 * @typedef {object} Asked What a trial asks for.
 * @property {Record<string, string>} [headers]
 * @property {() => string} [token] A bearer token for each attempt.
 * @property {string} [method]
 * @property {string} [body]
 * @property {string[]} [types] The types of events to hear beside `message`.
 * @property {string} [lastEventId]
 * @property {AbortSignal} [signal]
 * @property {number} [watchdog] Milliseconds.
 * @property {number} [maxRetries]
 * @property {number} [baseDelay] Milliseconds.
 * @property {number} [maxDelay] Milliseconds.
 * @property {number} [pollAfter]
 * @property {(event: Seen) => unknown} [onEvent]
 * @property {(headers: Record<string, string>) => void} [onHeaders] Hears the answer's.
 *
 * @typedef {{type: string, data: string, id: string | undefined, origin?: string}} Seen
 *
 * @typedef {object} Reader
 * @property {Seen[]} events
 * @property {unknown[]} troubles
 * @property {() => unknown} close
 * @property {(() => unknown) | undefined} [reconnect]
 * @property {() => boolean} isEnded
 * @property {unknown} raw
 * @property {string[]} lacks What it was asked for and has no option for.
 */

const bearer = (asked) => (asked.token ? { Authorization: `Bearer ${asked.token()}` } : {});

function reader() {
  return { events: [], troubles: [], lacks: [], isEnded: () => false, close: () => {}, raw: null };
}

function told(it, asked) {
  return (event) => {
    it.events.push(event);
    return asked.onEvent?.(event);
  };
}

function lacking(asked, ...names) {
  return names.filter((name) => asked[name] !== undefined);
}

async function ours(url, { types, onEvent, onHeaders, ...options }) {
  const { SSEConnection } = await import("../src/index.js");
  const it = reader();
  const hear = told(it, { onEvent });
  if (onHeaders) {
    options.fetch = async (target, init) => {
      const answer = await fetch(target, init);
      onHeaders(Object.fromEntries(answer.headers));
      return answer;
    };
  }
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const connection = new SSEConnection(url, { pollAfter: 0, ...given });
  connection.onevent = ({ type, data, lastEventId, origin }) => hear({ type, data, id: lastEventId, origin });
  connection.onerror = ({ error }) => it.troubles.push({ status: error.status, error });
  return Object.assign(it, {
    raw: connection,
    close: () => connection.close(),
    reconnect: () => connection.reconnect(),
    isEnded: () => connection.state === "closed",
  });
}

async function fetchEventSource(url, asked) {
  globalThis.window ??= globalThis;
  globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource: open } = await import("@microsoft/fetch-event-source/lib/cjs/index.js").then((it) => it.default ?? it);
  const it = reader();
  const hear = told(it, asked);
  const abort = new AbortController();
  asked.signal?.addEventListener("abort", () => abort.abort());
  let isEnded = false;
  it.raw = open(url, {
    method: asked.method,
    body: asked.body,
    headers: { ...asked.headers, ...(asked.lastEventId && { "last-event-id": asked.lastEventId }) },
    signal: abort.signal,
    fetch: asked.token && ((target, init) => fetch(target, { ...init, headers: { ...init.headers, ...bearer(asked) } })),
    ...(asked.onHeaders && { onopen: async (answer) => asked.onHeaders(Object.fromEntries(answer.headers)) }),
    onmessage: ({ event, data, id }) => hear({ type: event || "message", data, id }),
    onerror: (error) => {
      it.troubles.push({ status: error.status, error });
      if (asked.maxRetries !== undefined && it.troubles.length > asked.maxRetries) throw error;
    },
  });
  it.raw.then(() => (isEnded = true), () => (isEnded = true));
  return Object.assign(it, {
    close: () => abort.abort(),
    isEnded: () => isEnded,
    lacks: lacking(asked, "watchdog", "baseDelay", "maxDelay", "pollAfter"),
  });
}

async function eventsource(url, asked) {
  const { EventSource } = await import("eventsource");
  const it = reader();
  const hear = told(it, asked);
  const extra = () => ({ ...asked.headers, ...bearer(asked) });
  const { method, body } = asked;
  const source = new EventSource(url, {
    fetch: async (target, init) => {
      const headers = { ...init.headers, ...extra() };
      if (asked.lastEventId && !headers["Last-Event-ID"]) headers["Last-Event-ID"] = asked.lastEventId;
      const answer = await fetch(target, { ...init, ...(method && { method, body }), headers });
      asked.onHeaders?.(Object.fromEntries(answer.headers));
      return answer;
    },
  });
  for (const type of ["message", ...(asked.types ?? [])]) {
    source.addEventListener(type, (event) => event instanceof MessageEvent && hear({ type, data: event.data, id: event.lastEventId, origin: event.origin }));
  }
  source.onerror = ({ code, message }) => it.troubles.push({ status: code, error: message });
  return Object.assign(it, {
    raw: source,
    close: () => source.close(),
    isEnded: () => source.readyState === 2,
    lacks: lacking(asked, "watchdog", "maxRetries", "baseDelay", "maxDelay", "pollAfter", "signal"),
  });
}

async function eventSourcePlus(url, asked) {
  const { EventSourcePlus } = await import("event-source-plus");
  const it = reader();
  const hear = told(it, asked);
  const source = new EventSourcePlus(url, {
    method: asked.method,
    body: asked.body,
    signal: asked.signal,
    headers: () => ({ ...asked.headers, ...bearer(asked) }),
    maxRetryCount: asked.maxRetries,
    maxRetryInterval: asked.maxDelay,
  });
  if (asked.lastEventId) source.lastEventId = asked.lastEventId;
  let isEnded = false;
  const controller = source.listen({
    onResponse: ({ response }) => asked.onHeaders?.(Object.fromEntries(response.headers)),
    onMessage: ({ event, data, id }) => hear({ type: event, data, id }),
    onRequestError: ({ error }) => void it.troubles.push({ status: error.status, error }),
    onResponseError: ({ response, error }) => void it.troubles.push({ status: response.status, error }),
  });
  controller.onAbort(() => (isEnded = true));
  return Object.assign(it, {
    raw: controller,
    close: () => controller.abort(),
    reconnect: () => controller.reconnect(),
    isEnded: () => isEnded,
    lacks: lacking(asked, "watchdog", "baseDelay", "pollAfter"),
  });
}

async function launchDarkly(url, asked) {
  const { EventSource } = await import("launchdarkly-eventsource").then((it) => it.default ?? it);
  const it = reader();
  const hear = told(it, asked);
  const headers = { ...asked.headers, ...(asked.lastEventId && { "Last-Event-ID": asked.lastEventId }) };
  if (asked.token) Object.defineProperty(headers, "Authorization", { enumerable: true, get: () => bearer(asked).Authorization });
  const source = new EventSource(url, {
    method: asked.method,
    body: asked.body,
    headers,
    readTimeoutMillis: asked.watchdog,
    // As its documentation recommends; both are off by default.
    initialRetryDelayMillis: asked.baseDelay ?? 1000,
    maxBackoffMillis: asked.maxDelay ?? 30_000,
    jitterRatio: 0.5,
    retryResetIntervalMillis: 60_000,
    ...(asked.maxRetries !== undefined && { errorFilter: () => it.troubles.length < asked.maxRetries }),
  });
  for (const type of ["message", ...(asked.types ?? [])]) {
    source.addEventListener(type, (event) => typeof event.data === "string" && hear({ type, data: event.data, id: event.lastEventId, origin: event.origin }));
  }
  source.onretrying = () => asked.maxRetries !== undefined && it.troubles.push({});
  // `onerror` would take the other listeners away.
  source.addEventListener("error", (error) => it.troubles.push({ status: error?.status, error: error?.message }));
  source.onopen = ({ headers }) => asked.onHeaders?.(headers);
  return Object.assign(it, {
    raw: source,
    close: () => source.close(),
    isEnded: () => source.readyState === 2,
    lacks: lacking(asked, "pollAfter", "signal"),
  });
}

/** The browser's own, in Chromium, from a page of the server's origin. The page is made up, so Chromium takes it for one that may not go to other local addresses. */
async function native(url, asked) {
  const { launch } = await import("../../testing/browser.js");
  const browser = (native.browser ??= await launch("--disable-features=LocalNetworkAccessChecks"));
  const page = await browser.newPage();
  const { origin } = new URL(url);
  await page.route(`${origin}/page`, (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html><title>t</title>" }));
  await page.route(`${origin}/favicon.ico`, (route) => route.fulfill({ status: 404 }));
  await page.goto(`${origin}/page`);
  const it = reader();
  const hear = told(it, asked);
  let isEnded = false;
  await page.exposeFunction("told", (event) => void hear(event));
  await page.exposeFunction("trouble", (state) => {
    it.troubles.push({ status: undefined });
    isEnded = state === 2;
  });
  await page.evaluate(
    ([target, types]) => {
      const source = (globalThis.source = new EventSource(target));
      for (const type of types) {
        source.addEventListener(type, (event) => {
          const { data, lastEventId, origin } = event;
          if (event instanceof MessageEvent) globalThis.told(data.length > 1e6 ? { type, data: "x".repeat(9), length: data.length, id: lastEventId } : { type, data, id: lastEventId, origin });
        });
      }
      source.onerror = () => globalThis.trouble(source.readyState);
    },
    [url, ["message", ...(asked.types ?? [])]],
  );
  return Object.assign(it, {
    raw: {},
    close: () => page.evaluate(() => globalThis.source.close()),
    isEnded: () => isEnded,
    lacks: lacking(asked, "headers", "token", "method", "lastEventId", "signal", "watchdog", "maxRetries", "baseDelay", "maxDelay", "pollAfter", "onHeaders"),
  });
}

export const clients = {
  ours,
  EventSource: native,
  eventsource,
  "fetch-event-source": fetchEventSource,
  "event-source-plus": eventSourcePlus,
  "launchdarkly-eventsource": launchDarkly,
};

export const endBrowser = () => native.browser?.close();

// One of the JavaScript clients, for the comparison of clients: `node client.js NAME URL METHOD [HEADER…]`. What it tells
// goes to standard output, a line each: `event DATA`, `trouble WHAT`, `end`.
//
// Both are made for browsers. What they need of one stands in here; Node's fetch behaves as theirs does, redirects
// included.

const [name, url, method, ...lines] = process.argv.slice(2);
const headers = Object.fromEntries(lines.map((line) => line.split(": ")));
const body = method === "POST" ? "{}" : undefined;
const tell = (what, text = "") => console.log(`${what} ${String(text).replaceAll("\n", " ")}`);

if (name === "fetch-event-source") {
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource } = await import("@microsoft/fetch-event-source/lib/cjs/index.js").then((m) => m.default ?? m);
  fetchEventSource(url, {
    method,
    headers,
    body,
    onmessage: (message) => tell("event", message.data),
    onerror: (error) => tell("trouble", error),
  }).then(
    () => tell("end"),
    (error) => tell("trouble", error),
  );
} else {
  /** As much of an XMLHttpRequest as sse.js asks for, over fetch. */
  class Request extends EventTarget {
    static HEADERS_RECEIVED = 2;
    readyState = 0;
    status = 0;
    responseText = "";
    #headers = {};
    #received = new Headers();
    open(method, url) {
      this.method = method;
      this.url = url;
    }
    setRequestHeader(name, value) {
      this.#headers[name] = value;
    }
    getAllResponseHeaders() {
      return [...this.#received].map(([name, value]) => `${name}: ${value}\r\n`).join("");
    }
    abort() {}
    async send(payload) {
      try {
        const response = await fetch(this.url, {
          method: this.method,
          headers: this.#headers,
          body: payload || undefined,
        });
        this.status = response.status;
        this.#received = response.headers;
        this.readyState = Request.HEADERS_RECEIVED;
        this.dispatchEvent(new Event("readystatechange"));
        for await (const part of (response.body ?? new Response("").body).pipeThrough(new TextDecoderStream())) {
          this.responseText += part;
          this.dispatchEvent(new Event("progress"));
        }
        this.dispatchEvent(new Event("load"));
      } catch {
        this.status = 0;
        this.dispatchEvent(new Event("error"));
      }
    }
  }
  globalThis.XMLHttpRequest = Request;
  const { SSE } = await import("sse.js");
  // Off by default; without it there is nothing to see.
  const source = new SSE(url, { method, headers, payload: body, autoReconnect: true, start: false });
  source.onmessage = (event) => tell("event", event.data);
  source.onerror = (event) => tell("trouble", event.responseCode);
  source.stream();
}

// The parsers, each as `create(onEvent)` that gives { feed(bytes), end(), retry() }: bytes in, events out, because
// that is what a client has. What a parser leaves to its caller is done here as its own documentation shows it.

import { createParser } from "eventsource-parser";
import parse from "@microsoft/fetch-event-source/lib/cjs/parse.js";

/** A parser over strings; the caller decodes. */
function eventsourceParser(onEvent) {
  const text = new TextDecoder();
  let retry;
  const parser = createParser({
    onEvent: (e) => onEvent(e.event ?? "message", e.data, e.id),
    onRetry: (ms) => (retry = ms),
  });
  return {
    retry: () => retry,
    feed: (bytes) => parser.feed(text.decode(bytes, { stream: true })),
    end: () => {},
  };
}

/** The two functions its client is made of. */
function fetchEventSource(onEvent) {
  let retry;
  const lines = parse.getLines(
    parse.getMessages(
      () => {},
      (ms) => (retry = ms),
      (m) => onEvent(m.event || "message", m.data, m.id || undefined),
    ),
  );
  return { feed: (bytes) => lines(bytes), end: () => {}, retry: () => retry };
}

/** A client that cannot be had without its XMLHttpRequest: a stand-in hands it the text.
 *
 * A real one keeps all text received in one string and is asked for its end each time. The stand-in gives the new part
 * only, so that what is measured is the parser. */
class Request extends EventTarget {
  status = 200;
  #text = new TextDecoder("utf-8", { ignoreBOM: true });
  responseText = { substring: () => this.part };
  part = "";
  open() {}
  setRequestHeader() {}
  send() {}
  abort() {}
  feed(bytes) {
    this.part = this.#text.decode(bytes, { stream: true });
    this.dispatchEvent(new Event("progress"));
  }
  end() {
    this.part = "";
    this.dispatchEvent(new Event("load"));
  }
}

globalThis.CustomEvent ??= class extends Event {};
globalThis.XMLHttpRequest = Request;
const { SSE } = await import("sse.js");

function sseJs(onEvent) {
  const source = new SSE("http://localhost/");
  const delay = source.reconnectDelay;
  const request = source.xhr;
  // Events of other types than `message` need a listener for each name.
  for (const type of ["message", "update", "t"]) {
    source.addEventListener(type, (e) => onEvent(type, e.data, e.id ?? undefined));
  }
  return {
    feed: (bytes) => request.feed(bytes),
    end: () => request.end(),
    retry: () => (source.reconnectDelay === delay ? undefined : source.reconnectDelay),
  };
}

export const parsers = {
  "eventsource-parser": eventsourceParser,
  "fetch-event-source": fetchEventSource,
  "sse.js": sseJs,
};

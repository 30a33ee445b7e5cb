/**
 * The event stream format: bytes in, events out.
 *
 * Follows the WHATWG HTML standard, "Interpreting an event stream". One decoder reads the connections of one stream one after
 * the other; between two, call {@link Decoder#begin}.
 */

/**
 * An event as the stream had it.
 *
 * @typedef {object} DecodedEvent
 * @property {string} type The event's type; `message` where the stream named none.
 * @property {string} data The data lines, joined by line feeds.
 * @property {string} lastEventId The id in force: the event's own, or that of an earlier one.
 * @property {boolean} hasId Whether the block of the event had an id of its own.
 */

/**
 * What a decoder tells.
 *
 * @typedef {object} DecoderHandlers
 * @property {(event: DecodedEvent) => void} onEvent An event is whole.
 * @property {(milliseconds: number) => void} [onRetry] The server named a reconnection time.
 * @property {(text: string) => void} [onComment] A comment, without its colon and one space.
 * @property {() => void} [onDropped] An event was longer than the limit, and was left out.
 */

const SPACE = 32;

/** Reads one stream. Nothing is kept of an event but what is not delivered yet, and of that at most `maxEventLength`. */
export class Decoder {
  /** The last event id: what a reconnect sends. */
  lastEventId = "";

  #handlers;
  #max;
  #text = new TextDecoder();
  /** The beginning of a line whose end has not come. */
  #rest = "";
  /** The last character was a CR, so that an LF that follows is not a line of its own. */
  #afterCr = false;
  #id = "";
  #hasId = false;
  #type = "";
  #data = "";
  #hasData = false;
  #isDropped = false;

  /**
   * @param {DecoderHandlers} handlers
   * @param {{lastEventId?: string, maxEventLength?: number}} [options] The id to begin with; the longest event, in UTF-16 units.
   */
  constructor(handlers, { lastEventId = "", maxEventLength = 16 << 20 } = {}) {
    this.#handlers = handlers;
    this.#max = maxEventLength;
    this.lastEventId = this.#id = lastEventId;
  }

  /** A new connection begins: what was not whole is forgotten, the last event id stays. */
  begin() {
    this.#text = new TextDecoder();
    this.#rest = this.#type = this.#data = "";
    this.#afterCr = this.#hasId = this.#hasData = this.#isDropped = false;
    this.#id = this.lastEventId;
  }

  /**
   * Reads what came next, cut anywhere.
   *
   * @param {Uint8Array} bytes
   */
  feed(bytes) {
    let text = this.#text.decode(bytes, { stream: true });
    if (this.#afterCr && text) {
      this.#afterCr = false;
      if (text.startsWith("\n")) text = text.slice(1);
    }
    if (text.includes("\r")) {
      // A CR ends a line at once; an LF that the next bytes begin with belongs to it.
      this.#afterCr = text.endsWith("\r");
      text = text.replaceAll("\r\n", "\n").replaceAll("\r", "\n");
    }
    let start = 0;
    let end = text.indexOf("\n");
    if (this.#rest && end >= 0) {
      const line = this.#rest + text.slice(0, end);
      this.#rest = "";
      this.#line(line, 0, line.length);
      start = end + 1;
      end = text.indexOf("\n", start);
    }
    while (end >= 0) {
      this.#line(text, start, end);
      start = end + 1;
      end = text.indexOf("\n", start);
    }
    if (start === text.length) return;
    // Of a line that is left out only its being there counts.
    this.#rest = this.#isDropped ? ":" : this.#rest + text.slice(start);
    if (this.#rest.length + this.#data.length > this.#max) this.#drop();
  }

  #drop() {
    this.#isDropped = true;
    this.#rest = this.#rest && ":";
    this.#data = this.#type = "";
    this.#handlers.onDropped?.();
  }

  /**
   * @param {string} text
   * @param {number} start
   * @param {number} end
   */
  #line(text, start, end) {
    if (start === end) {
      this.#dispatch();
      return;
    }
    // What is left out goes on up to the blank line.
    if (this.#isDropped) return;
    if (text.startsWith("data:", start)) {
      this.#append(text.slice(value(text, start + 5, end), end));
    } else if (text.startsWith("id:", start)) {
      this.#setId(text.slice(value(text, start + 3, end), end));
    } else if (text.startsWith("event:", start)) {
      this.#type = text.slice(value(text, start + 6, end), end);
    } else if (text.startsWith(":", start)) {
      this.#handlers.onComment?.(text.slice(value(text, start + 1, end), end));
    } else {
      const colon = text.indexOf(":", start);
      const hasValue = colon >= 0 && colon < end;
      const name = text.slice(start, hasValue ? colon : end);
      this.#field(name, hasValue ? text.slice(value(text, colon + 1, end), end) : "");
    }
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  #field(name, value) {
    if (name === "event") {
      this.#type = value;
    } else if (name === "id") {
      this.#setId(value);
    } else if (name === "data") {
      this.#append(value);
    } else if (name === "retry" && /^[0-9]+$/.test(value)) {
      this.#handlers.onRetry?.(Math.min(Number(value), Number.MAX_SAFE_INTEGER));
    }
  }

  /** @param {string} id */
  #setId(id) {
    if (id.includes("\0")) return;
    this.#id = id;
    this.#hasId = true;
  }

  /** @param {string} line */
  #append(line) {
    if (this.#data.length + line.length > this.#max) {
      this.#drop();
      return;
    }
    this.#data = this.#hasData ? `${this.#data}\n${line}` : line;
    this.#hasData = true;
  }

  #dispatch() {
    if (this.#isDropped) {
      // Its id does not count: whoever reconnects gets the event again.
      this.#id = this.lastEventId;
      this.#isDropped = this.#hasId = this.#hasData = false;
      return;
    }
    this.lastEventId = this.#id;
    const { lastEventId } = this;
    if (this.#hasData) {
      const event = { type: this.#type || "message", data: this.#data, lastEventId, hasId: this.#hasId };
      this.#data = this.#type = "";
      this.#hasData = this.#hasId = false;
      this.#handlers.onEvent(event);
    } else {
      this.#type = "";
      this.#hasId = false;
    }
  }
}

/**
 * Where a value begins: behind one space.
 *
 * @param {string} text
 * @param {number} start
 * @param {number} end
 */
function value(text, start, end) {
  return start < end && text.charCodeAt(start) === SPACE ? start + 1 : start;
}

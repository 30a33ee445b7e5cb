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
    this.#rest = this.#data = this.#type = "";
    this.#afterCr = this.#isDropped = this.#hasId = this.#hasData = false;
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
    let start = 0;
    /** @param {string} char */
    const next = (char) => {
      const end = text.indexOf(char, start);
      return end < 0 ? text.length : end;
    };
    let cr = next("\r");
    let lf = next("\n");
    for (let end; (end = Math.min(cr, lf)) < text.length; ) {
      if (this.#rest) {
        const line = this.#rest + text.slice(start, end);
        this.#rest = "";
        this.#line(line, 0, line.length);
      } else {
        this.#line(text, start, end);
      }
      start = end + 1;
      if (cr === end) {
        // A CR ends a line at once; an LF behind it belongs to it.
        this.#afterCr = start === text.length;
        if (lf === start) start += 1;
        cr = next("\r");
      }
      if (lf < start) lf = next("\n");
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
      this.#append(text.slice(start + (text.charCodeAt(start + 5) === SPACE ? 6 : 5), end));
      return;
    }
    const line = text.slice(start, end);
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line.charCodeAt(colon + 1) === SPACE ? 2 : 1));
    if (name === "data") {
      this.#append(value);
    } else if (name === "id") {
      this.#setId(value);
    } else if (name === "event") {
      this.#type = value;
    } else if (!name) {
      this.#handlers.onComment?.(value);
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
    // The id of an event that is left out does not count: whoever reconnects gets it again.
    if (this.#isDropped) this.#id = this.lastEventId;
    const lastEventId = (this.lastEventId = this.#id);
    const event = this.#hasData && !this.#isDropped && { type: this.#type || "message", data: this.#data, lastEventId, hasId: this.#hasId };
    this.#data = this.#type = "";
    this.#isDropped = this.#hasId = this.#hasData = false;
    if (event) this.#handlers.onEvent(event);
  }
}

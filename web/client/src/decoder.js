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
 * @property {() => void} [onDropped] An event, or a line of it, was longer than its limit, and the event was left out.
 */

const SPACE = 32;

/** Reads one stream. Nothing is kept of an event but what is not delivered yet, and of that no more than the limits say. */
export class Decoder {
  /** The last event id: what a reconnect sends. */
  lastEventId = "";

  #handlers;
  #maxEvent;
  #maxLine;
  #text = new TextDecoder();
  /** The beginning of a line whose end has not come. */
  #rest = "";
  /** The last character was a CR, so that an LF that follows is not a line of its own. */
  #afterCr = false;
  /** Of the event that is read: its own id, if it has one, its type, and its data, if there are any. */
  #id = /** @type {string | null} */ (null);
  #type = "";
  #data = /** @type {string | null} */ (null);
  #isDropped = false;

  /**
   * @param {DecoderHandlers} handlers
   * @param {{lastEventId?: string, maxEventLength?: number, maxLineLength?: number}} [options] The id to begin with, and the limits in UTF-16
   *   units: of an event's type, id and data together, with one for each data line, and of a line.
   */
  constructor(handlers, { lastEventId = "", maxEventLength = 16 << 20, maxLineLength = maxEventLength } = {}) {
    this.#handlers = handlers;
    this.#maxEvent = maxEventLength;
    this.#maxLine = maxLineLength;
    this.lastEventId = lastEventId;
  }

  /** A new connection begins: what was not whole is forgotten, the last event id stays. */
  begin() {
    this.#text = new TextDecoder();
    this.#rest = "";
    this.#afterCr = false;
    this.#forget();
  }

  #forget() {
    this.#id = this.#data = null;
    this.#type = "";
    this.#isDropped = false;
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
    let cr = text.indexOf("\r");
    let lf = text.indexOf("\n");
    while (cr >= 0 || lf >= 0) {
      const isCr = cr >= 0 && (lf < 0 || cr < lf);
      const end = isCr ? cr : lf;
      const line = this.#rest + text.slice(start, end);
      this.#rest = "";
      this.#line(line);
      start = end + 1;
      if (isCr) {
        // A CR ends a line at once; an LF behind it belongs to it.
        this.#afterCr = start === text.length;
        if (lf === start) start += 1;
        cr = text.indexOf("\r", start);
      }
      if (lf >= 0 && lf < start) lf = text.indexOf("\n", start);
    }
    if (start === text.length) return;
    // Of a line that is left out only its being there counts.
    this.#rest = this.#isDropped ? ":" : this.#rest + text.slice(start);
    if (this.#rest.length > this.#maxLine) this.#drop();
  }

  #drop() {
    this.#forget();
    this.#isDropped = true;
    this.#rest = this.#rest && ":";
    this.#handlers.onDropped?.();
  }

  /** @param {string} line */
  #line(line) {
    if (!line) return this.#dispatch();
    // What is left out goes on up to the blank line.
    if (this.#isDropped) return;
    if (line.length > this.#maxLine) return this.#drop();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line.charCodeAt(colon + 1) === SPACE ? 2 : 1));
    if (name === "data") {
      this.#data = this.#data === null ? value : `${this.#data}\n${value}`;
    } else if (name === "id") {
      if (!value.includes("\0")) this.#id = value;
    } else if (name === "event") {
      this.#type = value;
    } else if (!name) {
      this.#handlers.onComment?.(value);
    } else if (name === "retry" && /^[0-9]+$/.test(value)) {
      this.#handlers.onRetry?.(Math.min(Number(value), Number.MAX_SAFE_INTEGER));
    }
    const length = (this.#data?.length ?? -1) + this.#type.length + (this.#id?.length ?? 0);
    if (length >= this.#maxEvent) this.#drop();
  }

  #dispatch() {
    // The id of an event that is left out does not count: whoever reconnects gets it again.
    const [id, type, data] = [this.#id, this.#type || "message", this.#data];
    this.#forget();
    const lastEventId = (this.lastEventId = id ?? this.lastEventId);
    if (data !== null) this.#handlers.onEvent({ type, data, lastEventId, hasId: id !== null });
  }
}

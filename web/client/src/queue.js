/** What comes faster than it is read. */

/** @import { ConnectionError } from "./error.js" */

/** What an iterator has not read yet. */
export class EventQueue {
  /** @type {MessageEvent[]} */
  events = [];
  isEnded = false;
  /** @type {ConnectionError | null} */
  error = null;
  /** Lets the stream go on. @type {(() => void) | null} */
  release = null;
  /** @type {(() => void) | null} */
  #arrived = null;

  /** @param {MessageEvent} event */
  push(event) {
    this.events.push(event);
    this.#arrived?.();
  }

  /** @param {ConnectionError | null} error */
  end(error) {
    this.isEnded = true;
    this.error = error;
    this.#arrived?.();
  }

  wait() {
    this.release?.();
    return new Promise((/** @type {(value?: unknown) => void} */ resolve) => (this.#arrived = resolve));
  }
}

// A server that does as the test tells it, one request after the other.
import { createServer } from "node:http";

/**
 * @typedef {import("node:http").IncomingMessage & {body: string}} Asked
 * @typedef {(asked: Asked, answer: import("node:http").ServerResponse) => void} Step
 */

export class Server {
  /** @type {Asked[]} */
  requests = [];
  /** @type {Step[]} */
  #steps;
  #server;
  #sockets = new Set();

  /** @param {...Step} steps What each request gets; the last one holds for all that follow. */
  constructor(...steps) {
    this.#steps = steps;
    this.#server = createServer(async (request, answer) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      const asked = Object.assign(request, { body });
      this.requests.push(asked);
      const step = this.#steps.length > 1 ? this.#steps.shift() : this.#steps[0];
      step?.(asked, answer);
    });
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  async start() {
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", () => resolve(null)));
    const address = /** @type {import("node:net").AddressInfo} */ (this.#server.address());
    return `http://127.0.0.1:${address.port}/events`;
  }

  stop() {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/**
 * A stream with this text; it stays open unless it is to end.
 *
 * @param {string} text
 * @param {{ends?: boolean, cuts?: boolean}} [how]
 * @returns {Step}
 */
export function stream(text, { ends = false, cuts = false } = {}) {
  return (_, answer) => {
    answer.writeHead(200, { "Content-Type": "text/event-stream" });
    answer.write(text || ":\n\n", () => {
      if (ends) answer.end();
      if (cuts) answer.destroy();
    });
  };
}

/**
 * @param {number} status
 * @param {string} [body]
 * @param {Record<string, string>} [headers]
 * @returns {Step}
 */
export function status(status, body = "", headers = {}) {
  return (_, answer) => {
    answer.writeHead(status, headers);
    answer.end(body);
  };
}

/**
 * @param {unknown} value
 * @returns {Step}
 */
export function json(value) {
  return status(200, JSON.stringify(value), { "Content-Type": "application/json" });
}

/**
 * Waits until something holds.
 *
 * @template T
 * @param {string} what
 * @param {() => T} condition
 * @returns {Promise<T>}
 */
export async function eventually(what, condition) {
  const until = Date.now() + 20_000;
  for (;;) {
    const value = condition();
    if (value) return value;
    if (Date.now() > until) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

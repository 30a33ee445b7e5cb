// The client as pages load it, from an origin of its own.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, normalize } from "node:path";

const TYPES = /** @type {Record<string, string>} */ ({ ".js": "text/javascript", ".css": "text/css", ".html": "text/html" });

/** Serves the files of `web/`, and for `/` an empty page. */
export class Pages {
  #server = createServer(async (request, answer) => {
    const path = normalize(new URL(request.url ?? "/", "http://localhost").pathname);
    try {
      const body = path === "/" ? "<!doctype html><title>tab</title>" : await readFile(new URL(`..${path}`, import.meta.url));
      answer.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "text/html" });
      answer.end(body);
    } catch {
      answer.writeHead(404);
      answer.end();
    }
  });
  url = "";

  static async start() {
    const pages = new Pages();
    await new Promise((resolve) => pages.#server.listen(0, "127.0.0.1", () => resolve(null)));
    const address = /** @type {import("node:net").AddressInfo} */ (pages.#server.address());
    pages.url = `http://127.0.0.1:${address.port}`;
    return pages;
  }

  stop() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

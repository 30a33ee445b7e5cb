// A page with React in a real browser: the modules as they are, React's CommonJS packages wrapped, an import map that joins them.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const WEB = dirname(dirname(fileURLToPath(import.meta.url)));

/** Where each version is. */
export const REACTS = { 18: join(WEB, "testing/react-18"), 19: WEB };

/** What a page imports of React, and by which names: a CommonJS module has none before it runs. */
const IMPORTS = {
  react: "createElement,memo,useEffect,useMemo,useReducer,useRef,useState,useSyncExternalStore,StrictMode",
  "react-dom": "flushSync",
  "react-dom/client": "createRoot,hydrateRoot",
  "react-dom/server.browser": "renderToString",
};
const ENTRIES = /** @type {(keyof typeof IMPORTS)[]} */ (Object.keys(IMPORTS));

const MAP = {
  "sse-server-client": "/client/src/index.js",
  "sse-server-client/shared": "/client/src/shared.js",
  "sse-server-react": "/react/src/index.js",
  ...Object.fromEntries(ENTRIES.map((name) => [name, `/npm/${name}`])),
};

const PAGE = `<!doctype html><meta charset="utf-8"><title>React</title>
<script type="importmap">${JSON.stringify({ imports: MAP })}</script>
<script src="/npm/all"></script>
<script type="module">
  import * as React from "react";
  import { flushSync } from "react-dom";
  import { createRoot, hydrateRoot } from "react-dom/client";
  import { renderToString } from "react-dom/server.browser";
  import { SharedConnection } from "sse-server-client/shared";
  import * as hooks from "sse-server-react";
  const place = () => document.body.appendChild(document.createElement("div"));
  const render = (element) => {
    const root = createRoot(place());
    root.render(element);
    return root;
  };
  window.lab = { React, h: React.createElement, render, place, hydrateRoot, flushSync, renderToString, SharedConnection, ...hooks };
</script>`;

/** Serves pages with one version of React. */
export class ReactPages {
  #server;
  #require;
  #modules = /** @type {Map<string, string>} */ (new Map());
  /** Where the pages are; any path that is no file is one. */
  url = "";

  /** @param {keyof typeof REACTS} version */
  constructor(version) {
    this.#require = createRequire(join(REACTS[version], "package.json"));
    this.#server = createServer((request, answer) => {
      const { pathname } = new URL(request.url ?? "/", "http://page");
      const [type, text] = this.#file(pathname);
      answer.writeHead(200, { "Content-Type": `text/${type}` }).end(text);
    });
  }

  async start() {
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", () => resolve(null)));
    const address = /** @type {import("node:net").AddressInfo} */ (this.#server.address());
    this.url = `http://127.0.0.1:${address.port}`;
  }

  stop() {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /**
   * @param {string} path
   * @returns {[string, string]}
   */
  #file(path) {
    if (path === "/npm/all") return ["javascript", this.#bundle()];
    if (path.startsWith("/npm/")) {
      const name = /** @type {keyof typeof IMPORTS} */ (path.slice(5));
      const file = JSON.stringify(this.#require.resolve(name));
      return ["javascript", `const it = required(${file}); export default it; export const { ${IMPORTS[name]} } = it;`];
    }
    if (extname(path) === ".js") return ["javascript", readFileSync(join(WEB, normalize(path)), "utf8")];
    return ["html", PAGE];
  }

  /** All of React in one script, each file a function. */
  #bundle() {
    if (!this.#modules.size) ENTRIES.forEach((name) => this.#add(this.#require.resolve(name)));
    const modules = [...this.#modules].map(([file, text]) => `${JSON.stringify(file)}(module, exports, require) {${text}\n}`);
    return `const process = { env: { NODE_ENV: "development" } }, modules = { ${modules} }, done = {};
      function required(file) {
        if (!done[file]) {
          done[file] = { exports: {} };
          modules[file](done[file], done[file].exports, required);
        }
        return done[file].exports;
      }`;
  }

  /**
   * Opens a page, whose errors end the test.
   *
   * @param {import("playwright-core").BrowserContext} context
   */
  async open(context) {
    const page = await context.newPage();
    const errors = /** @type {string[]} */ ([]);
    page.on("pageerror", (error) => errors.push(String(error)));
    // React's own complaints; what the browser says of requests that fail is the subject of tests.
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type()) && !/^Failed to load resource/.test(message.text())) errors.push(message.text());
    });
    await page.goto(this.url);
    await page.waitForFunction("window.lab");
    return new ReactPage(page, errors);
  }

  /** @param {string} file */
  #add(file) {
    if (this.#modules.has(file)) return;
    this.#modules.set(file, "");
    const require = createRequire(file);
    const text = readFileSync(file, "utf8").replace(/\brequire\((["'])([^"']+)\1\)/g, (call, _, name) => {
      if (/production/.test(name)) return call;
      const found = require.resolve(name);
      this.#add(found);
      return `require(${JSON.stringify(found)})`;
    });
    this.#modules.set(file, text);
  }
}

class ReactPage {
  #page;

  /**
   * @param {import("playwright-core").Page} page
   * @param {string[]} errors What went wrong in it.
   */
  constructor(page, errors) {
    this.#page = page;
    this.errors = errors;
  }

  /**
   * Runs a function in the page, with React, the hooks, and what earlier calls have put beside them.
   *
   * @param {(lab: any, given: any) => any} task
   * @param {unknown} [given]
   * @returns {Promise<any>}
   */
  run(task, given) {
    return this.#page.evaluate(`(${task})(window.lab, ${JSON.stringify(given)})`);
  }

  /**
   * Waits until the page shows a text.
   *
   * @param {string} text
   */
  async shows(text) {
    try {
      await this.#page.waitForFunction((/** @type {string} */ it) => document.body.innerText.includes(it), text, { timeout: 30_000 });
    } catch (cause) {
      throw new Error(`never: ${text}, but: ${await this.text()}; ${this.errors}`, { cause });
    }
  }

  text() {
    return this.#page.evaluate(() => document.body.innerText);
  }
}

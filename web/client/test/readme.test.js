// The examples of the README, as they stand there, on a page of a real hub.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";

import { launch } from "../../testing/browser.js";
import { Hub } from "../../testing/hub.js";
import { examples } from "../../testing/readme.js";

/** @typedef {import("playwright-core").Page} Page */

const all = examples(new URL("../README.md", import.meta.url), "js");

const MAP = { "sse-server-client": "/client/index.js", "sse-server-client/decoder": "/client/decoder.js", "sse-server-client/shared": "/client/shared.js" };

/** @type {Hub} */
let hub;
/** @type {import("playwright-core").Browser} */
let browser;
/** Ann's token, which reads `news`, jobs and `job/*`. */
let token = "";

before(async () => {
  const probe = new Hub();
  const secret = probe.file("secret", randomBytes(48).toString("base64"));
  token = probe.token("--jwt-secret", secret, "--user", "ann", "--subscribe", "news", "--subscribe", "job/*");
  const open = JSON.stringify({ subscribe: ["job/42", "chat", "loop", "broken"], publish: ["*"] });
  hub = await Hub.start("--jwt-secret", secret, "--anonymous", open);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await hub?.stop();
});

/**
 * @typedef {object} Run What an example needs around it.
 * @property {string} [before] Code in front of it, in the same module.
 * @property {string} [behind] Code behind it.
 * @property {(page: Page) => Promise<unknown>} [prepare]
 * @property {(page: Page, said: string[]) => Promise<unknown>} see What is to be seen of it.
 */

const CLIENT = 'import { SSEConnection } from "sse-server-client";\n';
const EXPOSE = "globalThis.connection = connection;\n";

/** @param {Page} page */
const isOpen = (page) => page.waitForFunction("globalThis.connection?.state === 'open'");

/** @param {string[]} said @param {string} line */
async function heard(said, line) {
  for (let n = 0; n < 500 && !said.includes(line); n += 1) await new Promise((resolve) => setTimeout(resolve, 20));
  assert(said.includes(line), `${line}: ${said.join("; ")}`);
}

/** By heading, in the order of the document. @type {Record<string, Run[]>} */
const runs = {
  "First use": [
    {
      behind: EXPOSE,
      see: async (page, said) => {
        await isOpen(page);
        await heard(said, "open");
        await hub.publish({ topic: "job/42", event: "progress", data: { progress: 7 } });
        await heard(said, "7");
      },
    },
  ],
  "Events and states": [
    {
      before: `${CLIENT}const connection = new SSEConnection("/events?topic=broken");\n`,
      behind: EXPOSE,
      see: async (page, said) => {
        await isOpen(page);
        await hub.publish({ topic: "broken", event: "error", data: { error: "disk full" } });
        await heard(said, "the job failed: disk full");
        assert.equal(said.filter((line) => line.includes("undefined")).length, 0, said.join());
        await page.evaluate("globalThis.connection.url += '&no=1'; globalThis.connection.reconnect().catch(() => {})");
        await page.waitForFunction("globalThis.connection.state === 'closed'");
        assert(said.some((line) => / 400 .*true$/.test(line)), said.join("; "));
      },
    },
  ],
  "Tokens and tickets": [
    {
      before: CLIENT,
      behind: EXPOSE,
      prepare: (page) => page.route("**/token*", (route) => route.fulfill({ body: route.request().url().endsWith("?renew") ? token : "sse_old" })),
      see: isOpen,
    },
    {
      before: `${CLIENT}const token = async () => ${"`TOKEN`"};\n`,
      behind: EXPOSE,
      see: async (page) => {
        await isOpen(page);
        await page.evaluate("globalThis.connection.reconnect()");
        await isOpen(page);
      },
    },
  ],
  "What was missed": [
    {
      before: `${CLIENT}const show = (data) => console.log("shown", data);\n`,
      behind: EXPOSE,
      see: async (page, said) => {
        await isOpen(page);
        await hub.publish({ topic: "chat", data: "one" });
        await heard(said, "shown one");
        await page.goto("about:blank");
        await hub.publish({ topic: "chat", data: "two" });
        await page.goto(`${hub.url}/page`);
        await heard(said, "shown two");
        assert.equal(said.filter((line) => line === "shown one").length, 1);
      },
    },
  ],
  "One event after the other": [
    {
      before: `${CLIENT}const connection = new SSEConnection("/events?topic=loop&event_types=x");\n${EXPOSE}const save = async (type, data) => console.log("saved", type, data);\n`,
      see: async (page, said) => {
        await isOpen(page);
        await hub.publish({ topic: "loop", event: "x", data: "a" });
        await heard(said, "saved x a");
        await page.evaluate("globalThis.connection.close()");
        await heard(said, "the example ended");
      },
    },
  ],
  "Streams by POST": [
    {
      before: `${CLIENT}const question = "what?"; let text = "";\n`,
      behind: "console.log(text, answer.state);\n",
      prepare: (page) =>
        page.route("**/answers", (route) => {
          assert.equal(route.request().postData(), '{"question":"what?"}');
          return route.fulfill({ contentType: "text/event-stream", body: "data: Hel\n\ndata: lo\n\ndata: [DONE]\n\n" });
        }),
      see: (_, said) => heard(said, "Hello closed"),
    },
  ],
  "The decoder alone": [
    {
      prepare: (page) => page.route("**/answers", (route) => route.fulfill({ contentType: "text/event-stream", body: "id: 1\nevent: x\ndata: a\n\n" })),
      see: (_, said) => heard(said, "x a 1"),
    },
  ],
  "Many tabs, one connection": [
    {
      before: "const token = `TOKEN`;\n",
      behind: EXPOSE,
      see: async (page, said) => {
        await isOpen(page);
        await hub.publish({ topic: "job/7", event: "progress", data: "half" });
        await heard(said, "half");
      },
    },
  ],
};

test("each example has a run, and each run an example", () => {
  const counted = Object.fromEntries(Object.entries(runs).map(([heading, of]) => [heading, of.length]));
  const found = /** @type {Record<string, number>} */ ({});
  for (const { heading } of all) found[heading] = (found[heading] ?? 0) + 1;
  assert.deepEqual(found, counted);
});

for (const [heading, of] of Object.entries(runs)) {
  for (const [n, { before: first = "", behind = "", prepare, see }] of of.entries()) {
    test(`${heading}, ${n + 1}`, async () => {
      const { code = "" } = all.filter((it) => it.heading === heading)[n] ?? {};
      const script = `${first}${code}${behind}console.log("the example ended");`.replaceAll("TOKEN", token);
      const html = `<!doctype html><title>page</title><script type="importmap">${JSON.stringify({ imports: MAP })}</script><script type="module">${script}</script>`;
      const context = await browser.newContext();
      try {
        const page = await context.newPage();
        /** @type {string[]} */
        const said = [];
        page.on("console", (message) => said.push(message.text()));
        page.on("pageerror", (error) => said.push(`uncaught: ${error}`));
        await page.route("**/page", (route) => route.fulfill({ contentType: "text/html", body: html }));
        await prepare?.(page);
        await page.goto(`${hub.url}/page`);
        await see(page, said);
        assert.deepEqual(said.filter((line) => line.startsWith("uncaught")), []);
      } finally {
        await context.close();
      }
    });
  }
}

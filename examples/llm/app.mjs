import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

import { HubError, cancelJob } from "../node/sse-hub.mjs";
import { Answer } from "./answer.mjs";

// Keep them in your database.
const answers = new Map();

const routes = {
  "GET /": async () => ({ type: "text/html; charset=utf-8", body: await readFile(new URL("index.html", import.meta.url)) }),

  "POST /answers": async (_, request) => {
    const { prompt } = await new Response(request).json();
    const id = crypto.randomUUID();
    const answer = new Answer(id);
    await answer.run(String(prompt));
    answers.set(id, answer);
    return json({ id });
  },

  // All so far, for a page that comes when the hub no longer has the beginning.
  "GET /answers/:id": async (id) => {
    const { text, reason } = answers.get(id) ?? missing();
    return json({ text, reason });
  },

  "POST /answers/:id/stop": async (id) => {
    await cancelJob(id).catch((error) => {
      if (!(error instanceof HubError && error.status === 409)) throw error; // it has ended by itself
    });
    return json({});
  },
};

createServer(async (request, response) => {
  const [, path, id = "", action = ""] = request.url.match(/^(\/answers|\/)(?:\/([\w-]+)(\/stop)?)?$/) ?? [];
  const route = routes[`${request.method} ${path}${id && "/:id"}${action}`];
  try {
    const { type, body } = await (route ?? missing)(id, request);
    response.writeHead(200, { "Content-Type": type }).end(body);
  } catch (error) {
    if (!error.status) console.error(error);
    response.writeHead(error.status || 502, { "Content-Type": "text/plain" }).end(error.message);
  }
}).listen(5000, "127.0.0.1");

function json(value) {
  return { type: "application/json", body: JSON.stringify(value) };
}

function missing() {
  throw Object.assign(new Error("there is nothing here"), { status: 404 });
}

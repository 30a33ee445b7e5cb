import { setTimeout } from "node:timers/promises";

import express from "express";

import { sendCompletionUpdate, sendErrorUpdate, sendProgressUpdate } from "../node/sse-hub.mjs";

const app = express();

async function summarise(jobId) {
  try {
    for (let page = 1; page <= 10; page += 1) {
      await setTimeout(200); // the work
      await sendProgressUpdate(jobId, 10 * page, `Page ${page} of 10`);
    }
    await sendCompletionUpdate(jobId, { pages: 10 });
  } catch (error) {
    console.error(error);
    await sendErrorUpdate(jobId, error).catch(console.error);
  }
}

app.post("/jobs", async (request, response) => {
  const jobId = crypto.randomUUID();
  await sendProgressUpdate(jobId, 0, "Waiting");
  void summarise(jobId);
  response.json({ job_id: jobId });
});

app.get("/", (request, response) => {
  response.sendFile("index.html", { root: import.meta.dirname });
});

app.listen(5000, "127.0.0.1");

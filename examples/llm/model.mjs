// A model to try things with: it says the same to everyone, in the chunks of OpenAI's API, and stops when nobody listens any more.
import { createServer } from "node:http";
import { setTimeout } from "node:timers/promises";

const sentence = ["The", " answer", " is", ' "forty-two"', ", naïve", " 世界", " 🌍", ".\n"];
const tokens = Array(45).fill(sentence).flat();

const counts = { running: 0, finished: 0, aborted: 0 };

createServer(async (request, response) => {
  if (request.method === "GET") return response.end(JSON.stringify(counts));
  request.resume();
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const chunk = (choice) =>
    response.write(`data: ${JSON.stringify({ id: "chatcmpl-1", object: "chat.completion.chunk", model: "m-1", choices: [{ index: 0, ...choice }] })}\n\n`);
  counts.running += 1;
  for (const content of tokens) {
    await setTimeout(10);
    if (response.destroyed) break;
    chunk({ delta: { content }, finish_reason: null });
  }
  counts.running -= 1;
  if (response.destroyed) {
    counts.aborted += 1;
    return;
  }
  counts.finished += 1;
  chunk({ delta: {}, finish_reason: "stop" });
  response.end("data: [DONE]\n\n");
}).listen(9000, "127.0.0.1");

// One answer of the model: read once, published for all.
import { setTimeout } from "node:timers/promises";

import { createJob, jobEnd, publish, sendCompletionUpdate, sendErrorUpdate } from "../node/sse-hub.mjs";

const MODEL = process.env.MODEL_URL ?? "http://127.0.0.1:9000/v1/chat/completions";
/** Milliseconds for which tokens are collected: a guess, less than an eye sees. */
const BATCH = 20;

export class Answer {
  /** All of it so far. */
  text = "";
  /** Why it is over: `complete`, `stopped` or `failed`. */
  reason = null;
  #id;
  #published = 0;
  #publishing = null;
  #stop = new AbortController();

  constructor(id) {
    this.#id = id;
  }

  /** Reads it to its end, or until its job is cancelled. */
  async run(prompt) {
    await createJob(this.#id, { title: prompt });
    void this.#finish(prompt).catch((error) => console.error(error));
  }

  async #finish(prompt) {
    const watch = new AbortController();
    void jobEnd(this.#id, watch.signal).then((status) => this.#stop.abort(status), () => {});
    try {
      for await (const token of tokens(prompt, this.#stop.signal)) this.#add(token);
      await this.#end("complete");
      await sendCompletionUpdate(this.#id, { length: this.text.length });
    } catch (error) {
      const isStopped = this.#stop.signal.reason === "cancelled";
      await this.#end(isStopped ? "stopped" : "failed");
      if (!isStopped) {
        await sendErrorUpdate(this.#id, error);
        throw error;
      }
    } finally {
      watch.abort();
    }
  }

  #add(token) {
    this.text += token;
    this.#publishing ??= this.#publish().catch((error) => this.#stop.abort(error));
  }

  // One piece after the other. What comes while one is under way goes into the next.
  async #publish() {
    while (this.#published < this.text.length) {
      await setTimeout(BATCH);
      const at = this.#published;
      const text = this.text.slice(at);
      await this.#tell("token", { at, text }, at);
      this.#published += text.length;
    }
    this.#publishing = null;
  }

  // After the last token, so that all pages end with the same text.
  async #end(reason) {
    await this.#publishing;
    this.reason = reason;
    await this.#tell("end", { length: this.text.length, reason }, "end");
  }

  // The id makes a second attempt the same event.
  #tell(type, data, name) {
    return publish(type, data, `answer/${this.#id}`, { id: `${this.#id}/${name}` });
  }
}

/** The texts in a model's stream. */
async function* tokens(prompt, signal) {
  const answer = await fetch(MODEL, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model: "m-1", stream: true, messages: [{ role: "user", content: prompt }] }),
    signal,
  });
  if (!answer.ok) throw new Error(`the model answered ${answer.status}: ${await answer.text()}`);
  let rest = "";
  for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines.filter((line) => line.startsWith("data: "))) {
      const data = line.slice("data: ".length);
      if (data === "[DONE]") return;
      const token = JSON.parse(data).choices[0]?.delta?.content;
      if (token) yield token;
    }
  }
  throw new Error("the model's stream broke off");
}

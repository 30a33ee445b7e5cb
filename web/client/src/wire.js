/**
 * What is told beside the events of a stream or a poll, `show=topics`, brought to where a connection does not lose it: behind their types.
 * No type has a control character.
 */

import { Decoder } from "./decoder.js";
import { parsed } from "./error.js";

/**
 * All topics of an event; of those that are somebody's own no more than `user/`, `session/` or `connection/`. The label is the type for
 * which subscriptions get it, where that is another than its own.
 *
 * @typedef {{topics: string[], label?: string}} About
 */

const SEPARATOR = "\t";
const ABOUT = "about ";

/**
 * The type of an event, and what was told beside it.
 *
 * @param {string} type
 * @returns {[string, About | null]}
 */
export function split(type) {
  const [own, about] = type.split(SEPARATOR);
  const told = about ? parsed(about) : null;
  return [own, Array.isArray(told?.topics) ? told : null];
}

/**
 * An answer of the hub, with what it tells of an event behind the event's type.
 *
 * @param {Response} answer
 */
export async function told(answer) {
  const type = answer.headers.get("content-type") ?? "";
  if (answer.status !== 200 || !answer.body) return answer;
  const { status, headers } = answer;
  if (type.startsWith("text/event-stream")) return new Response(answer.body.pipeThrough(rewriter()), { status, headers });
  if (!type.startsWith("application/json")) return answer;
  const polled = await answer.json();
  for (const event of polled.events ?? []) {
    const { topics, label } = event;
    if (topics) event.event += SEPARATOR + JSON.stringify({ topics, label });
  }
  return new Response(JSON.stringify(polled), { status, headers: { "Content-Type": type } });
}

/**
 * An event as a stream has it; without a type, only its id.
 *
 * @param {{type: string, data: string, id: string, hasId: boolean}} event
 */
export function block({ type, data, id, hasId }) {
  let text = hasId ? `id: ${id}\n` : "";
  if (type) text += `event: ${type}\n${data.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`).join("")}`;
  return `${text}\n`;
}

/** @returns {TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>} */
function rewriter() {
  const encoder = new TextEncoder();
  let text = "";
  let about = "";
  let at = "";
  const decoder = new Decoder({
    onEvent({ type, data, lastEventId: id, hasId }) {
      text += block({ type: about ? type + SEPARATOR + about : type, data, id, hasId });
      about = "";
      at = id;
    },
    onRetry: (milliseconds) => (text += `retry: ${milliseconds}\n`),
    onComment: (comment) => {
      if (comment.startsWith(ABOUT)) about = comment.slice(ABOUT.length);
    },
    onDropped: () => (about = ""),
  });
  return new TransformStream({
    transform(bytes, controller) {
      text = "";
      decoder.feed(bytes);
      if (decoder.lastEventId !== at) text += block({ type: "", data: "", id: (at = decoder.lastEventId), hasId: true });
      // Whatever comes is a sign of life.
      controller.enqueue(encoder.encode(text || ":\n"));
    },
  });
}

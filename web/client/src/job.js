/** The state that a stream of a job's topic begins with, for a tab whose stream had begun before it came. */

import { parsed } from "./error.js";
import { ask } from "./request.js";

/** @import { ConnectionOptions } from "./connection.js" */
/** @import { Wants } from "./wants.js" */

/**
 * The jobs whose topics are wanted by name, and where they are looked at.
 *
 * @param {URL} url The stream's.
 * @param {Wants} wants
 * @returns {URL[]}
 */
export function jobsOf(url, { names }) {
  const ids = (names ?? []).flatMap((topic) => topic.match(/^job\/(.+)$/s)?.[1] ?? []);
  return ids.map((id) => {
    const job = new URL(url.href);
    job.search = "";
    job.pathname = job.pathname.replace(/\/(events|sse\/events|sse|stream)\/?$/, "") + `/jobs/${encodeURIComponent(id)}`;
    return job;
  });
}

/**
 * A job's state, as the event that a stream would begin with.
 *
 * @param {ConnectionOptions} options
 * @param {URL} job
 * @param {boolean} hasLongNames The jobs' events are called `job_progress` and so on.
 * @param {readonly string[] | null} types What is wanted; null for everything.
 * @returns {Promise<{type: string, data: string, id: string, hasId: boolean} | null>} Null where there is no such job.
 */
export async function stateOf(options, job, hasLongNames, types) {
  try {
    const answer = await ask(options, job, { headers: { Accept: "application/json" } });
    const { details, created_at: _, updated_at: timestamp, version: __, ...fields } = parsed(await answer.text());
    if (!answer.ok) return null;
    const { status } = fields;
    const kinds = /** @type {Record<string, string[]>} */ ({ completed: ["complete"], error: ["error"], in_progress: ["status", "progress"] })[status] ?? ["status"];
    const names = kinds.map((kind) => (hasLongNames ? `job_${kind}` : kind));
    const type = names.find((name) => !types || types.includes(name));
    const data = JSON.stringify({ ...details, timestamp, ...fields });
    return type ? { type, data, id: "", hasId: false } : null;
  } catch {
    return null; // What the job does next comes all the same.
  }
}

/**
 * Whether an event tells of a job no more than a state that came later.
 *
 * @param {string} data
 * @param {string} state The state's data.
 */
export function isOlder(data, state) {
  const [event, known] = [parsed(data), parsed(state)];
  return event?.job_id === known.job_id && Date.parse(event.timestamp) <= Date.parse(known.timestamp);
}

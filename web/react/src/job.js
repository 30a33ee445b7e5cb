/** A job in a component. */

import { useMemo, useRef } from "react";

import { feedOf, keyOf, parsed } from "./feed.js";
import { failure, get, hubOf, jobOf, post, streamOf } from "./hub.js";
import { useFeed } from "./use-feed.js";

/** @import { ConnectionOptions, Plan, Snapshot } from "./feed.js" */

/**
 * What is known of a job, with whatever else its program reports.
 *
 * @typedef {object} KnownOfJob
 * @property {string} job_id
 * @property {"pending" | "in_progress" | "completed" | "error" | "cancelled"} status
 * @property {string} [title]
 * @property {number} progress
 * @property {number} [total]
 * @property {string} [message]
 * @property {any} [result]
 * @property {any} [error]
 * @property {string} timestamp When it last changed.
 */

/** @typedef {KnownOfJob & Record<string, any>} Job */

/**
 * A job as it was read last, and when it changed before that was asked for otherwise than by the stream.
 *
 * @typedef {{job: Job | null, asked: string, failure: Error | null}} Known
 */

/** @typedef {Omit<ConnectionOptions, "topics" | "eventTypes" | "lastEventId" | "storageKey"> & {url?: string | URL}} JobOptions */

/**
 * @template [Result=any]
 * @typedef {object} FollowedJob
 * @property {Job | null} job All that is known of it; null until it exists.
 * @property {number} progress
 * @property {number | null} total
 * @property {number} percent From 0 to 100. Without a total, progress counts as percent, as the hub has it.
 * @property {string | null} message
 * @property {Job["status"] | null} status
 * @property {Result | null} result
 * @property {Error | null} error Why the job failed, with what was published as its `cause`; or what is wrong with the connection now.
 * @property {boolean} isDone Whether it has ended: completed, failed or cancelled.
 * @property {boolean} isConnected
 * @property {() => void} reconnect Connects anew, also when the connection had given up.
 * @property {(message?: string) => Promise<void>} cancel Asks the hub to cancel it; rejected with a `ConnectionError` when that is refused.
 */

/**
 * Follows a job: by a stream, by polling where streams fail, and right from the start if it has ended already. When it ends, the
 * connection is closed.
 *
 * @template [Result=any]
 * @param {string | null | undefined} id The job's id; null for none. A job that does not exist yet is followed once it does.
 * @param {JobOptions} [options] `url` is the hub's address, the page's own if left out; the others are the connection's.
 * @returns {FollowedJob<Result>}
 */
export function useJob(id, { url, ...options } = {}) {
  const hub = hubOf(url);
  const plan = typeof id === "string" && id ? planOf(hub, id, options) : null;
  const key = plan?.key ?? null;
  const address = plan && id ? jobOf(hub, id) : null;
  const latest = useRef(options);
  latest.current = options;
  const actions = useMemo(
    () => ({
      reconnect: () => void (key && feedOf(key)?.reconnect()),
      cancel: async (/** @type {unknown} */ message) => {
        // As a click's handler it is called with the click.
        const body = typeof message === "string" ? { message } : {};
        if (address) await post(`${address}/cancel`, body, latest.current);
      },
    }),
    [address, key],
  );
  return useFeed(plan, UNKNOWN, fieldsOf, actions);
}

/**
 * @param {Snapshot<Known>} snapshot
 * @returns {Omit<FollowedJob<any>, "cancel" | "reconnect">}
 */
function fieldsOf({ value: { job, failure }, error, isConnected }) {
  const { progress = 0, total = null, message = null, status = null, result = null } = job ?? {};
  const share = total === null ? progress : total > 0 ? (100 * progress) / total : 0;
  const percent = status === "completed" ? 100 : Math.min(100, Math.max(0, share));
  return { job, progress, total, percent, message, status, result, error: failure ?? error, isDone: isOver({ job }), isConnected };
}

/**
 * @param {string} hub
 * @param {string} id
 * @param {ConnectionOptions} given
 * @returns {Plan<Known>}
 */
function planOf(hub, id, given) {
  // A stream that goes on after an event does not begin with the job's state.
  const options = { ...given, topics: undefined, eventTypes: undefined, lastEventId: undefined, storageKey: undefined };
  const key = `job ${keyOf([hub, id, options])}`;
  return {
    key,
    sourceKey: key,
    url: streamOf(hub, `job/${id}`),
    options,
    initial: UNKNOWN,
    isOver,
    fold: (known, { type, data }) => {
      if (!TYPES.includes(type) || isOver(known)) return known;
      const said = parsed(data);
      if (said?.job_id !== id || said.timestamp < known.asked) return known;
      return { ...known, job: { ...known.job, ...said }, failure: said.status === "error" ? failure(data) : null };
    },
    // Polls do not begin with the job's state, and it may have changed in a gap.
    onMissed: async (feed) => {
      const answer = await get(jobOf(hub, id), options);
      if (!answer) return;
      const { details, created_at: _, updated_at: timestamp, version: __, ...job } = answer;
      feed.change((known) => {
        if (isOver(known) || (known.job && known.job.timestamp > timestamp)) return known;
        const failed = job.status === "error" ? failure(JSON.stringify(job)) : null;
        return { job: { ...details, ...job, timestamp }, asked: timestamp, failure: failed };
      });
    },
  };
}

/** @param {{job: Job | null}} known */
function isOver({ job }) {
  return job !== null && ENDS.includes(job.status);
}

/** @type {Known} */
const UNKNOWN = { job: null, asked: "", failure: null };

const TYPES = ["status", "progress", "educational", "complete", "error"];
const ENDS = ["completed", "error", "cancelled"];

/** A text in a component that grows while a model writes it. */

import { useMemo, useRef } from "react";

import { feedOf, keyOf, parsed } from "./feed.js";
import { failure, hubOf, jobOf, post, streamOf } from "./hub.js";
import { useFeed } from "./use-feed.js";

/** @import { ConnectionOptions, Plan, Snapshot } from "./feed.js" */

/**
 * @typedef {object} OwnTokenOptions
 * @property {string | URL} [url] The hub's address; the page's own, if left out.
 * @property {string} [event] The type of the events that bring text. `token`.
 * @property {string} [job] The job that `stop()` cancels, where the topic is not `job/ID` itself.
 * @property {(data: any) => string} [select] The text in an event's data, where that is JSON. Without it the data is the text as it stands.
 */

/** @typedef {Omit<ConnectionOptions, "topics" | "eventTypes" | "lastEventId" | "storageKey"> & OwnTokenOptions} TokenOptions */

/** @typedef {{text: string, done: boolean, isStopped: boolean, failure: Error | null}} Written */

/**
 * @typedef {object} Tokens
 * @property {string} text The text so far, from its beginning, however late the component comes.
 * @property {boolean} done Whether nothing more comes: it is complete, it failed, or it was stopped.
 * @property {boolean} isStopped Whether somebody stopped it.
 * @property {Error | null} error Why it failed, with what was published as its `cause`; or what is wrong with the connection now.
 * @property {Record<string, any> | null} gap What the stream said of missing events: then the text has a hole.
 * @property {boolean} isConnected
 * @property {() => void} reconnect Connects anew, also when the connection had given up.
 * @property {() => Promise<void>} stop Asks the program that writes to stop.
 */

/**
 * Follows a text, one event `token` after the other, to an event `done`, `complete` or `end`, or to `error`. A topic has one text.
 *
 * `stop()` asks the program that writes to stop; the hub cannot do it. It publishes the event `stop` to the topic, with which all who
 * read the topic are done, with the same text. The program has to read the topic, too. With a `job`, or where the topic is `job/ID`,
 * it cancels that job instead, which the program learns with its next report, or by waiting for it. In the topic `job/ID` that ends
 * the text; in another one the program does, with `end` and `{"reason": "stopped"}`.
 *
 * @param {string | null | undefined} topic The topic; null for none.
 * @param {TokenOptions} [options] Besides these, the connection's.
 * @returns {Tokens}
 */
export function useTokens(topic, { url, event = "token", job, select, ...options } = {}) {
  const hub = hubOf(url);
  const plan = typeof topic === "string" && topic ? planOf(hub, topic, event, select, options) : null;
  const key = plan?.key ?? null;
  const latest = useRef(options);
  latest.current = options;
  const actions = useMemo(
    () => ({
      reconnect: () => void (key && feedOf(key)?.reconnect()),
      stop: async () => {
        if (!topic || (key && feedOf(key)?.snapshot.value.done)) return;
        const id = job ?? (topic.startsWith("job/") ? topic.slice("job/".length) : null);
        if (id) await post(`${jobOf(hub, id)}/cancel`, {}, latest.current);
        else await post(`${hub}/events`, { topic, event: "stop", data: {} }, latest.current);
      },
    }),
    [hub, topic, job, key],
  );
  return useFeed(plan, EMPTY, fieldsOf, actions);
}

/**
 * @param {Snapshot<Written>} snapshot
 * @returns {Omit<Tokens, "stop" | "reconnect">}
 */
function fieldsOf({ value: { failure, ...written }, error, gap, isConnected }) {
  return { ...written, error: failure ?? error, gap, isConnected };
}

/**
 * @param {string} hub
 * @param {string} topic
 * @param {string} event
 * @param {((data: any) => string) | undefined} select
 * @param {ConnectionOptions} given
 * @returns {Plan<Written>}
 */
function planOf(hub, topic, event, select, given) {
  // All that is kept of the topic, whatever was read of it before.
  const options = { ...given, topics: undefined, eventTypes: undefined, lastEventId: "earliest", storageKey: undefined };
  const key = `tokens ${keyOf([hub, topic, event, select, options])}`;
  return {
    key,
    sourceKey: key,
    url: streamOf(hub, topic),
    options,
    initial: EMPTY,
    isOver: ({ done }) => done,
    fold: (written, { type, data }) => {
      if (written.done) return written;
      if (type === event) return { ...written, text: written.text + (select ? (select(parsed(data)) ?? "") : data) };
      const { status, reason } = parsed(data) ?? {};
      if (type === "error" || (type === "end" && reason === "failed")) return { ...written, done: true, failure: failure(data) };
      const isStopped = type === "stop" || (type === "end" && reason === "stopped") || (type === "status" && status === "cancelled");
      return isStopped || ENDS.includes(type) ? { ...written, done: true, isStopped } : written;
    },
  };
}

/** @type {Written} */
const EMPTY = { text: "", done: false, isStopped: false, failure: null };

const ENDS = ["done", "complete", "end"];

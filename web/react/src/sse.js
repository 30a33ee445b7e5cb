/** A stream of events in a component. */

import { useMemo } from "react";

import { feedOf, keyOf, parsed } from "./feed.js";
import { useFeed } from "./use-feed.js";

/** @import { ConnectionFailure, ConnectionOptions, Plan, Snapshot, State } from "./feed.js" */

/**
 * Says of which types events are, and what each has as its data: `useSSE<Events<{progress: Progress, done: null}>>(…)`.
 *
 * @template {Record<string, any>} Types
 * @typedef {{"events of": Types}} Events
 */

/**
 * The data of an event.
 *
 * @template T
 * @typedef {T extends Events<infer Types> ? Types[keyof Types] : T} Data
 */

/**
 * An event. `id` is its own, or that of an earlier one where it has none.
 *
 * @template T
 * @typedef {T extends Events<infer Types>
 *   ? {[Type in keyof Types & string]: {type: Type, data: Types[Type], id: string}}[keyof Types & string]
 *   : {type: string, data: T, id: string}} Envelope
 */

/**
 * @template T
 * @template Selected
 * @typedef {object} OwnOptions
 * @property {string} [event] The type of the events to follow.
 * @property {string[]} [events] The types; every type, without either, but for the hub's own: `connected`, `gap` and `ping`.
 * @property {(data: Data<T>, event: Envelope<T>) => Selected} [select] Makes `data` of the newest event.
 * @property {number} [history] As many of the newest events are kept in `events`. 1.
 * @property {string} [share] Components with another text here do not share a connection.
 */

/**
 * @template [T=any]
 * @template [Selected=Data<T>]
 * @typedef {ConnectionOptions & OwnOptions<T, Selected>} SSEOptions
 */

/**
 * @template [T=any]
 * @template [Selected=Data<T>]
 * @typedef {object} SSE
 * @property {Selected | null} data The newest event's data, parsed where it is JSON, or what `select` makes of it; null before the first.
 * @property {Envelope<T>[]} events The newest events, the oldest of them first.
 * @property {State} state
 * @property {boolean} isConnected Whether events come, by a stream or by polling.
 * @property {ConnectionFailure} error What is wrong with the connection now; null while events come.
 * @property {Record<string, any> | null} gap What the stream last said of missing events: another object with each gap.
 * @property {string} lastEventId
 * @property {() => void} reconnect Connects anew, after the last event, also when the connection had given up.
 */

/**
 * Follows a stream.
 *
 * The component renders again when something of the result that it reads has changed. Components with the same URL and options share
 * a connection. Options are compared by what they say, so they may be written where they are used; functions among them may change
 * with each rendering, and the newest is called.
 *
 * @template [T=any] The data's type, or `Events<…>`.
 * @template [Selected=Data<T>] What `select` makes of it.
 * @param {string | URL | null | undefined} url The stream's URL; null for none.
 * @param {SSEOptions<T, Selected>} [options]
 * @returns {SSE<T, Selected>}
 */
export function useSSE(url, options = {}) {
  const { event, events, select, history = 1, share = "", ...others } = options;
  const types = events ?? (event === undefined ? null : [event]);
  const plan = url === null || url === undefined ? null : planOf(String(url), others, types, Math.max(1, history), share);
  const key = plan?.key ?? null;

  const fieldsOf = useMemo(() => {
    let newest = /** @type {any} */ (undefined);
    let data = /** @type {Selected | null} */ (null);
    return (/** @type {Snapshot<any[]>} */ { value, ...standing }) => {
      const last = value.at(-1);
      if (last !== newest) data = !last ? null : select ? select(last.data, last) : last.data;
      newest = last;
      return { data, events: value, ...standing };
    };
    // With another key the newest event is another stream's.
  }, /** @type {any[]} */ ([select, key]));
  const actions = useMemo(() => ({ reconnect: () => void (key && feedOf(key)?.reconnect()) }), [key]);
  return useFeed(plan, NONE, fieldsOf, actions);
}

/**
 * @param {string} url
 * @param {ConnectionOptions} options
 * @param {string[] | null} types
 * @param {number} history
 * @param {string} share
 * @returns {Plan<any[]>}
 */
function planOf(url, options, types, history, share) {
  const sourceKey = `events ${keyOf([url, options, share])}`;
  return {
    key: `${sourceKey} ${keyOf([types, history])}`,
    sourceKey,
    url,
    options,
    initial: NONE,
    fold: (value, { type, data, lastEventId }) => {
      const isFollowed = types ? types.includes(type) : !OF_HUB.includes(type);
      return isFollowed ? [...value, { type, data: parsed(data), id: lastEventId }].slice(-history) : value;
    },
  };
}

const NONE = /** @type {any[]} */ ([]);

/** What the hub says of the stream itself. */
const OF_HUB = ["connected", "gap", "ping"];

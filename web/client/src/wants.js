/** What tabs want of a hub's events: each for itself, and together. */

import { isPattern, matcher } from "./patterns.js";

/** @import { ConnectionOptions } from "./connection.js" */
/** @import { Delivery } from "./group.js" */

/** @typedef {readonly string[] | null} Texts Null means all. */

/**
 * Topics by their names, patterns of topics, and types. Of the first two both are null, or none.
 *
 * @typedef {{names: Texts, patterns: Texts, types: Texts}} Wants
 */

/** More types than this are asked for as all of them, to leave places for topics: the hub lets a connection name 64 of both together. */
const MAX_TYPES = 32;
/** What is told of topics that are somebody's own: whoever gets such an event is meant. */
const OWN = ["user/", "session/", "connection/"];
const PARTS = /** @type {const} */ (["names", "patterns", "types"]);
/** What a stream's address says of them. */
const PARAMETERS = ["topic", "topic_exact", "project_id", "event_types", "subscribe", "show"];
const LAST_EVENT_ID = ["last_event_id", "lastEventId", "lastEventID", "evs_last_event_id"];

/**
 * Parts an address into what tabs share, what this one wants, and the id after which it begins.
 *
 * @param {URL} url
 * @param {ConnectionOptions} options
 * @returns {{url: URL, wants: Wants, lastEventId: string}}
 */
export function parted(url, { topics = [], eventTypes = [] }) {
  const query = url.searchParams;
  const chosen = [...query.getAll("topic"), ...topics];
  const projects = query.getAll("project_id").map((project) => `project/${project}`);
  const names = [...query.getAll("topic_exact"), ...projects, ...chosen.filter((topic) => !isPattern(topic))];
  const patterns = chosen.filter(isPattern);
  const listed = [...query.getAll("subscribe"), ...query.getAll("event_types")].flatMap((list) => list.split(","));
  const types = [...listed.map((type) => type.trim()), ...eventTypes];
  const [lastEventId = ""] = LAST_EVENT_ID.flatMap((name) => query.getAll(name));
  const shared = new URL(url);
  for (const name of [...PARAMETERS, ...LAST_EVENT_ID]) shared.searchParams.delete(name);
  shared.searchParams.sort();
  shared.hash = "";
  const isAll = chosen.includes("*") || names.length + patterns.length === 0;
  const wants = {
    names: isAll ? null : unique(names),
    patterns: isAll ? null : unique(patterns),
    types: types.length && !types.includes("*") ? unique(types) : null,
  };
  return { url: shared, wants, lastEventId };
}

/**
 * An address that asks for it.
 *
 * @param {URL} url
 * @param {Wants} wants
 */
export function asking(url, { names, patterns, types }) {
  const asks = new URL(url);
  for (const name of PARAMETERS) asks.searchParams.delete(name);
  for (const topic of names ?? []) asks.searchParams.append("topic_exact", topic);
  for (const topic of patterns ?? []) asks.searchParams.append("topic", topic);
  if (types) asks.searchParams.set("event_types", types.join(","));
  return asks;
}

/**
 * What all want together.
 *
 * @param {Wants[]} tabs
 * @returns {Wants}
 */
export function together(tabs) {
  const union = (/** @type {"names" | "patterns" | "types"} */ part) =>
    tabs.every((wants) => wants[part]) ? unique(tabs.flatMap((wants) => wants[part] ?? [])) : null;
  const types = union("types");
  return { names: union("names"), patterns: union("patterns"), types: types && types.length <= MAX_TYPES ? types : null };
}

/**
 * Whether all of what is wanted is among what is had.
 *
 * @param {Wants} has
 * @param {Wants} wants
 */
export function covers(has, wants) {
  return PARTS.every((part) => {
    const [all, some] = [has[part], wants[part]];
    return all === null || (some !== null && some.every((text) => all.includes(text)));
  });
}

/**
 * What says of an event whether it is wanted. What is told of no topics is the hub's own, and for everyone.
 *
 * @param {Wants} wants
 * @returns {(delivery: Delivery) => boolean}
 */
export function chooser({ names, patterns, types }) {
  const exact = new Set([...(names ?? []), ...OWN]);
  const matchers = (patterns ?? []).flatMap((pattern) => matcher(pattern) ?? []);
  const isMeant = (/** @type {string} */ topic) => exact.has(topic) || matchers.some((matches) => matches(topic));
  return ({ type, hasId, about }) => {
    if (names && about && !about.topics.some(isMeant)) return false;
    // The hub's own events, and the state of a job, have no id of their own or are for all.
    return !types || !hasId || type === "gap" || types.includes(about?.label ?? type);
  };
}

/** @param {string[]} texts */
function unique(texts) {
  return [...new Set(texts)].sort();
}

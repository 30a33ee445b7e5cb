/** The hub's other routes, as the hooks ask them: with the credentials of their connections. */

import { SSEConnection } from "sse-server-client";

import { parsed } from "./feed.js";

/** @import { ConnectionOptions } from "./feed.js" */

/**
 * The hub's address: of its root, or of its stream.
 *
 * @param {string | URL | undefined} url
 */
export function hubOf(url) {
  return String(url ?? "").replace(/\/(events\/?)?$/, "");
}

/**
 * @param {string} url
 * @param {string} topic A topic, and no pattern of topics, whatever characters it has.
 */
export function streamOf(url, topic) {
  return `${url}/events?topic_exact=${encodeURIComponent(topic)}`;
}

/**
 * @param {string} url
 * @param {string} id
 */
export function jobOf(url, id) {
  return `${url}/jobs/${encodeURIComponent(id)}`;
}

/**
 * @param {string} url
 * @param {any} body
 * @param {ConnectionOptions} options
 * @returns {Promise<any>} Rejected with a `ConnectionError` when it is refused.
 */
export function post(url, body, options) {
  const connection = new SSEConnection(url, { ...options, signal: undefined, autoConnect: false, publishUrl: url });
  return connection.send(body);
}

/**
 * @param {string} url
 * @param {ConnectionOptions} options
 * @returns {Promise<any>} Null when there is no such thing, or no answer.
 */
export async function get(url, { headers, token, ticket, withCredentials, fetch: own = fetch }) {
  try {
    const asked = new Headers(typeof headers === "function" ? await headers() : headers);
    if (token) asked.set("Authorization", `Bearer ${typeof token === "function" ? await token(false) : token}`);
    const query = ticket ? `?ticket=${encodeURIComponent(typeof ticket === "function" ? await ticket(false) : ticket)}` : "";
    const answer = await own(url + query, { headers: asked, cache: "no-store", credentials: withCredentials ? "include" : "same-origin" });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/**
 * What a published failure says.
 *
 * @param {string} text An event's data.
 */
export function failure(text) {
  const data = parsed(text);
  const said = data?.error?.message ?? data?.error ?? data?.message ?? data?.reason ?? data;
  return new Error(typeof said === "string" ? said : JSON.stringify(said), { cause: data });
}

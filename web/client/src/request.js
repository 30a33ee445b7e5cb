/** Requests beside the stream, with what the stream shows. */

/** @import { ConnectionOptions, Provider } from "./connection.js" */

/**
 * Asks with the connection's token, headers and ticket; once more with new ones after a 401 or 403.
 *
 * @param {ConnectionOptions} options
 * @param {URL} url
 * @param {RequestInit} request
 * @returns {Promise<Response>}
 */
export async function ask(options, url, request) {
  const { token, ticket, headers, withCredentials } = options;
  const send = async (/** @type {boolean} */ renew) => {
    const target = new URL(url);
    /** @type {Record<string, string>} */
    const all = { .../** @type {any} */ (request.headers), ...(await provided(headers)) };
    if (token) all.Authorization = `Bearer ${await provided(token, renew)}`;
    if (ticket) target.searchParams.set("ticket", await provided(ticket, renew));
    return (options.fetch ?? fetch)(target.href, {
      ...request,
      headers: all,
      cache: "no-store",
      credentials: withCredentials ? "include" : "same-origin",
    });
  };
  const answer = await send(false);
  const isRefused = answer.status === 401 || answer.status === 403;
  if (!isRefused || ![token, ticket].some((it) => typeof it === "function")) return answer;
  await answer.body?.cancel();
  return send(true);
}

/**
 * What an option gives: itself, or what it returns.
 *
 * @template T
 * @param {T | ((renew: boolean) => T | Promise<T>)} option
 * @param {boolean} [renew]
 * @returns {Promise<T>}
 */
export async function provided(option, renew = false) {
  return typeof option === "function" ? /** @type {(renew: boolean) => T | Promise<T>} */ (option)(renew) : option;
}

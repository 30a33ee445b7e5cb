"use client";

/** Hooks for React: a stream of events, a job, and a text that grows; over connections that components share. */

export { useJob } from "./job.js";
export { useSSE } from "./sse.js";
export { useTokens } from "./tokens.js";

/**
 * @template {Record<string, any>} Types
 * @typedef {import("./sse.js").Events<Types>} Events
 */

/** @typedef {import("./feed.js").ConnectionOptions} ConnectionOptions */
/** @typedef {import("./job.js").Job} Job */

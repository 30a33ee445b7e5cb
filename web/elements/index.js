/** Elements that any page can drop in. */

export { SSEProgress } from "./sse-progress.js";
export { SSEStatus } from "./sse-status.js";
export { SSEToasts } from "./sse-toasts.js";

/** The client: a connection that stays, and the decoder that it reads with. */

export { SSEConnection } from "./connection.js";
export { Decoder } from "./decoder.js";
export { ConnectionError } from "./error.js";

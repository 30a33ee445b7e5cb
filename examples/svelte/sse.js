import { SSEConnection } from "sse-server-client";
import { readable } from "svelte/store";

/** A store with the newest event of a type, connected while somebody subscribes. The other options are the client's. */
export function sse(url, { event = "message", ...options } = {}) {
  return readable({ data: null, state: "connecting", error: null }, (_, update) => {
    // On a server stores are read once, for the page's first HTML.
    if (typeof window === "undefined") return;
    const connection = new SSEConnection(url, options);
    const show = () => {
      const { state, error } = connection;
      update((it) => ({ ...it, state, error: connection.isConnected() ? null : error }));
    };
    connection.addEventListener("statechange", show);
    connection.on(event, (data) => update((it) => ({ ...it, data })));
    return () => connection.close();
  });
}

import { SSEConnection } from "sse-server-client";
import { shallowReactive, toRefs, toValue, watchEffect } from "vue";

/** Follows the events of a type. The URL may be a ref or a getter, also of null; the other options are the client's. */
export function useSSE(url, { event = "message", ...options } = {}) {
  const it = shallowReactive({ data: null, state: "connecting", error: null });
  const follow = (onCleanup) => {
    const address = toValue(url);
    Object.assign(it, { data: null, state: "closed", error: null });
    if (!address) return;
    const connection = new SSEConnection(address, options);
    const show = () => Object.assign(it, { state: connection.state, error: connection.isConnected() ? null : connection.error });
    connection.addEventListener("statechange", show);
    connection.on(event, (data) => (it.data = data));
    onCleanup(() => connection.close());
    show();
  };
  // After mounting, and so never on a server.
  watchEffect(follow, { flush: "post" });
  return toRefs(it);
}

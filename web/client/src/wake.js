/** When a page should look after its connections. */

/**
 * Calls when the network is back, and when the page is shown again: from the background, or from the back-forward cache, where no
 * connection outlives.
 *
 * @param {(isDead: boolean) => void} wake `isDead` says that no connection can have stayed.
 * @returns {() => void} Ends it.
 */
export function onWake(wake) {
  const page = globalThis.window;
  if (!page?.document) return () => {};
  /** @type {[EventTarget, string, (event: any) => void][]} */
  const heard = [
    [page, "online", () => wake(false)],
    [page, "pageshow", (event) => event.persisted && wake(true)],
    [page.document, "visibilitychange", () => page.document.visibilityState === "visible" && wake(false)],
  ];
  for (const [target, type, listener] of heard) target.addEventListener(type, listener);
  return () => {
    for (const [target, type, listener] of heard) target.removeEventListener(type, listener);
  };
}

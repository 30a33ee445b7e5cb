/** When connections should be looked after. */

/**
 * Calls when the network is back, when the machine has slept, and when the page is shown again: from the background, or from the
 * back-forward cache, where no connection outlives.
 *
 * @param {(isDead: boolean, isLate?: boolean) => void} wake `isDead` says that no connection can be trusted, and `isLate` that this is
 *   because the machine slept.
 * @param {() => void} [look] Called each second.
 * @returns {() => void} Ends it.
 */
export function onWake(wake, look) {
  const page = globalThis.document;
  let last = Date.now();
  const ticks = setInterval(() => {
    // A look that is late had a machine that slept before it, or a page that was stuck. A hidden page's are late by design.
    if (Date.now() - last > 5000 && !page?.hidden) wake(true, true);
    last = Date.now();
    look?.();
  }, 1000);
  // A program may end while it waits.
  /** @type {any} */ (ticks).unref?.();
  const end = new AbortController();
  const hear = (/** @type {string} */ type, /** @type {(event: any) => void} */ listener) => page && addEventListener(type, listener, end);
  hear("online", () => wake(false));
  hear("pageshow", ({ persisted }) => persisted && wake(true));
  hear("visibilitychange", () => {
    last = Date.now();
    if (!page.hidden) wake(false);
  });
  return () => {
    clearInterval(ticks);
    end.abort();
  };
}

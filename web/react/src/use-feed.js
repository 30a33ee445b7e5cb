/** A feed in a component, which renders again when something that it reads has changed. */

import { useEffect, useMemo, useRef, useSyncExternalStore } from "react";

import { feedOf, openFeed } from "./feed.js";

/** @import { Plan, Snapshot } from "./feed.js" */

/**
 * @template Value
 * @template {Record<string, any>} Fields
 * @template {Record<string, any>} Actions
 * @param {Plan<Value> | null} plan Null follows nothing.
 * @param {Value} initial
 * @param {(snapshot: Snapshot<Value>) => Fields} fieldsOf What the component may read; called once for a snapshot.
 * @param {Actions} actions What it may call.
 * @returns {Fields & Actions}
 */
export function useFeed(plan, initial, fieldsOf, actions) {
  const latest = useRef(plan);
  const used = useRef(/** @type {Set<string>} */ (new Set()));
  // Before the subscribing below, which opens what this has.
  useEffect(() => {
    latest.current = plan;
    if (plan) feedOf(plan.key)?.renew(plan.options);
  });
  const key = plan?.key ?? null;
  const waits = plan !== null && plan.options.autoConnect !== false;

  const store = useMemo(() => {
    /** @type {Snapshot<Value>} */
    const idle = { value: initial, state: waits ? "connecting" : "closed", isConnected: false, error: null, gap: null, lastEventId: "" };
    return {
      idle,
      snapshot: () => (key === null ? idle : (feedOf(key)?.snapshot ?? idle)),
      subscribe: (/** @type {() => void} */ listener) =>
        latest.current && latest.current.key === key ? openFeed(latest.current).subscribe(listener) : () => {},
    };
  }, [key, waits]);

  const { newest, first } = useMemo(() => {
    let snapshot = store.idle;
    let shown = { fields: fieldsOf(snapshot) };
    return {
      first: () => shown,
      newest: () => {
        const now = store.snapshot();
        if (now === snapshot) return shown;
        snapshot = now;
        const fields = fieldsOf(now);
        const isSame = [...used.current].every((name) => Object.is(fields[name], shown.fields[name]));
        // What the component has not read so far may have changed, and is there when it reads it.
        if (isSame) shown.fields = fields;
        else shown = { fields };
        return shown;
      },
    };
  }, [store, fieldsOf]);

  const it = useSyncExternalStore(store.subscribe, newest, first);
  return useMemo(() => {
    const result = /** @type {any} */ ({ ...actions });
    for (const name of Object.keys(it.fields)) {
      const get = () => {
        used.current.add(name);
        return it.fields[name];
      };
      Object.defineProperty(result, name, { enumerable: true, get });
    }
    return result;
  }, [it, actions]);
}

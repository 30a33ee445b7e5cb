/*
 * EnhancedSSEClient: the class that pages of the "Enhanced SSE" system use, on top of the hub's own client.
 *
 *   <script src="/static/js/sse/enhanced_sse_client.js"></script>
 *   <script>
 *     const client = new EnhancedSSEClient("/sse", { maxRetries: 10, baseDelay: 1000, maxDelay: 30000 });
 *     client.on("job_progress", (data) => updateProgress(data.job_id, data.progress));
 *   </script>
 *
 * A classic script, so that the page's next script can use the class at once; the client itself is a module and follows a moment
 * later. Compressed messages are unpacked by the browser: pako is not needed, and does no harm.
 */
(() => {
  "use strict";

  const script = /** @type {HTMLScriptElement | null} */ (document.currentScript);
  const clientUrl = new URL("/client/index.js", script?.src ?? location.href).href;

  class EnhancedSSEClient {
    /**
     * @param {string} [url] The stream.
     * @param {object} [options]
     * @param {number} [options.maxRetries] Failed attempts in a row after which it gives up. 10.
     * @param {number} [options.baseDelay] Milliseconds of the first delay; it doubles with each failure. 1000.
     * @param {number} [options.maxDelay] Milliseconds of the longest delay. 30000.
     * @param {number} [options.heartbeatTimeout] Milliseconds without a byte after which it connects anew. 45000.
     * @param {boolean} [options.autoConnect] Connect at once. True.
     * @param {(status: string) => void} [options.onStatusChange] Hears `connecting`, `connected`, `reconnecting`, `polling` and `disconnected`.
     */
    constructor(url = "/sse", options = {}) {
      const { heartbeatTimeout = 45_000, autoConnect = true, onStatusChange, ...rest } = options;
      this.url = url;
      this.status = "disconnected";
      /** @type {Set<(status: string) => void>} */
      this.statusHandlers = new Set(onStatusChange ? [onStatusChange] : []);
      /** @type {[string, (data: any, event?: any) => void][]} */
      this.handlers = [];
      /** @type {any} */
      this.connection = null;
      this.isWanted = false;
      this.loaded = import(clientUrl).then(({ SSEConnection }) => {
        this.connection = new SSEConnection(new URL(url, location.href), {
          maxRetries: 10,
          baseDelay: 1000,
          maxDelay: 30_000,
          ...rest,
          watchdog: heartbeatTimeout,
          autoConnect: false,
        });
        this.connection.addEventListener("statechange", () => this.report());
        for (const [type, handler] of this.handlers) this.attach(type, handler);
      });
      if (autoConnect) this.connect().catch(() => {});
    }

    /** Connects; done when events come. */
    async connect() {
      this.isWanted = true;
      await this.loaded;
      if (this.isWanted) await this.connection.connect();
    }

    /** Connects anew, after the last event. */
    async reconnect() {
      this.isWanted = true;
      await this.loaded;
      if (this.isWanted) await this.connection.reconnect();
    }

    /** Ends it; nothing comes after this. */
    disconnect() {
      this.isWanted = false;
      this.connection?.disconnect();
    }

    close() {
      this.disconnect();
    }

    /**
     * Calls a handler with the data of each event of a type.
     *
     * @param {string} type
     * @param {(data: any, event?: any) => void} handler
     */
    on(type, handler) {
      this.handlers.push([type, handler]);
      if (this.connection) this.attach(type, handler);
      return this;
    }

    /**
     * @param {string} type
     * @param {(data: any, event?: any) => void} [handler] All of the type, if left out.
     */
    off(type, handler) {
      const goes = (/** @type {[string, Function]} */ [known, other]) => known === type && (!handler || other === handler);
      for (const [known, other] of this.handlers.filter(goes)) this.connection?.off(known, other);
      this.handlers = this.handlers.filter((it) => !goes(it));
      return this;
    }

    /** @param {(status: string) => void} handler */
    onStatus(handler) {
      this.statusHandlers.add(handler);
      handler(this.status);
      return this;
    }

    isConnected() {
      return this.connection?.isConnected() ?? false;
    }

    getStatus() {
      return this.status;
    }

    /**
     * @param {string} type
     * @param {(data: any, event?: any) => void} handler
     */
    attach(type, handler) {
      this.connection.on(type, handler);
    }

    report() {
      const { state, attempt } = this.connection;
      /** @type {Record<string, string>} */
      const names = { open: "connected", waiting: "reconnecting", closed: "disconnected" };
      const status = state === "connecting" && attempt > 0 ? "reconnecting" : (names[state] ?? state);
      if (status === this.status) return;
      this.status = status;
      for (const handler of this.statusHandlers) handler(status);
    }
  }

  /** @type {any} */ (globalThis).EnhancedSSEClient = EnhancedSSEClient;
})();

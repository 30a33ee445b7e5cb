/** `<sse-progress>`: how far a job is, by stream or by polling alone. */

import { ConnectedElement, sheet } from "./connection.js";

const style = sheet(`
  :host { display: block; font: 0.9375rem/1.4 system-ui, sans-serif; overflow-wrap: anywhere; }
  :host([hidden]) { display: none; }
  p { margin: 0 0 0.35rem; display: flex; justify-content: space-between; gap: 1rem; }
  p:empty, small:empty, section:empty { display: none; }
  div { height: var(--sse-progress-height, 0.5rem); border-radius: 1rem; background: var(--sse-line, #dbe0dd); overflow: hidden; }
  i { display: block; height: 100%; border-radius: inherit; background: var(--sse-accent, #1f6f54); transition: width 0.3s; }
  i.unknown { width: 30%; animation: slide 1.5s infinite; }
  :host([data-state="error"]) i { background: var(--sse-bad, #b3261e); }
  small { display: block; margin-top: 0.35rem; opacity: 0.8; }
  section { margin-top: 0.75rem; }
  @keyframes slide { from { margin-left: -30%; } to { margin-left: 100%; } }
  @media (prefers-reduced-motion: reduce) { i, i.unknown { transition: none; animation: none; } }
  @media (prefers-color-scheme: dark) { div { background: var(--sse-line, #323a36); } i { background: var(--sse-accent, #62c9a1); } }
`);

/** The events that tell how a job is. */
const TYPES = ["progress", "status", "complete", "error", "educational", "summary_progress", "summary_complete"];
/** As many characters of a text are shown. */
const MAX_TEXT = 2000;
const ENDED = ["completed", "error", "cancelled"];

/**
 * Attributes: `job`, whose progress it is, and without it the progress of the stream's events; `poll`, the seconds between looks at
 * `GET /jobs/{id}`, which need no stream; `timeout`, the seconds after which it gives up (300); `base`, the hub's address where it is
 * another one; `keep`, so that it stays after the end. It fires `done` with the job as `detail`.
 */
export class SSEProgress extends ConnectedElement {
  static observedAttributes = ["job", "poll"];

  #title = document.createElement("p");
  #bar = document.createElement("div");
  #fill = document.createElement("i");
  #item = document.createElement("small");
  #lesson = document.createElement("section");
  #timer = 0;
  #since = 0;

  constructor() {
    super(style);
    this.#bar.setAttribute("role", "progressbar");
    this.#bar.setAttribute("aria-valuemin", "0");
    this.#bar.setAttribute("aria-valuemax", "100");
    this.#bar.append(this.#fill);
    this.#lesson.setAttribute("aria-live", "polite");
    this.shadowRoot?.append(this.#title, this.#bar, this.#item, this.#lesson);
    this.show({});
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    this.attributeChangedCallback();
  }

  /** @override */
  disconnectedCallback() {
    super.disconnectedCallback();
    clearTimeout(this.#timer);
  }

  attributeChangedCallback() {
    clearTimeout(this.#timer);
    this.#since = Date.now();
    if (this.isConnected && this.getAttribute("job") && this.hasAttribute("poll")) this.#look(this.getAttribute("job") ?? "");
  }

  /** @override @param {import("../client/src/connection.js").SSEConnection} connection */
  listen(connection) {
    const gone = TYPES.map((type) =>
      connection.on(type, (data) => {
        const job = this.getAttribute("job");
        if (typeof data !== "object" || !data || (job && data.job_id !== job)) return;
        const state = { complete: "completed", summary_complete: "completed", error: "error" }[type];
        this.show({ ...data, ...(state && { status: state }) });
      }),
    );
    return () => gone.forEach((go) => go());
  }

  /** @param {string} job */
  async #look(job) {
    const seconds = Number(this.getAttribute("poll")) || 10;
    const timeout = Number(this.getAttribute("timeout") ?? 300);
    try {
      const url = new URL(`/jobs/${encodeURIComponent(job)}`, new URL(this.getAttribute("base") ?? "/", document.baseURI));
      const answer = await fetch(url, { cache: "no-store" });
      if (this.getAttribute("job") !== job || !this.isConnected) return;
      if (answer.ok) {
        const state = await answer.json();
        this.show(state);
        if (ENDED.includes(state.status)) return;
      }
    } catch {
      // The next look may reach it.
    }
    if (timeout > 0 && Date.now() - this.#since > timeout * 1000) {
      this.show({ status: "error", error: "This takes longer than expected." });
    } else {
      this.#timer = +setTimeout(() => this.#look(job), seconds * 1000);
    }
  }

  /**
   * Shows how far it is: the fields of a job, or of its events.
   *
   * @param {{progress?: number, total?: number, message?: string, error?: string, title?: string, status?: string, step?: unknown,
   *   current_item?: unknown, current_video?: {title?: string}, educational_content?: any}} state
   */
  show({ progress, total, message, error, title, status, step, current_item: item, current_video: video, educational_content: lesson }) {
    const isOver = status !== undefined && ENDED.includes(status);
    const known = Math.min(1, Math.max(0, Number(progress ?? NaN) / (Number(total) || 100)));
    const share = status === "completed" ? 1 : Number.isNaN(known) ? null : known;
    const words = said(error ?? message ?? title ?? "");
    const [text, percent] = [document.createElement("span"), document.createElement("span")];
    text.textContent = words;
    percent.textContent = share === null ? "" : `${Math.round(share * 100)} %`;
    this.#title.replaceChildren(...(words || share !== null ? [text, percent] : []));
    this.#fill.className = share === null && !isOver ? "unknown" : "";
    this.#fill.style.width = share === null ? "" : `${share * 100}%`;
    this.#bar.setAttribute("aria-label", words || "Progress");
    if (share === null) this.#bar.removeAttribute("aria-valuenow");
    else this.#bar.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    const current = item ?? video?.title ?? step;
    this.#item.textContent = current === undefined || isOver ? "" : said(current);
    if (lesson !== undefined) this.#teach(lesson);
    this.dataset.state = status ?? "";
    if (!isOver) {
      this.hidden = false;
      return;
    }
    clearTimeout(this.#timer);
    this.dispatchEvent(new CustomEvent("done", { detail: { status, message, error }, bubbles: true }));
    if (status === "completed" && !this.hasAttribute("keep")) this.#timer = +setTimeout(() => (this.hidden = true), 3000);
  }

  /** @param {any} lesson */
  #teach(lesson) {
    const parts = typeof lesson === "object" && lesson ? Object.values(lesson).flat() : [lesson];
    const shown = parts.filter((part) => part !== null && part !== undefined).map((part) => {
      const line = document.createElement("p");
      line.textContent = said(part);
      return line;
    });
    this.#lesson.replaceChildren(...shown);
  }
}

/** @param {unknown} value */
function said(value) {
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  // Nobody reads a book beside a bar, and it would hold up the page.
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}

if (!customElements.get("sse-progress")) customElements.define("sse-progress", SSEProgress);

// Tells the hub what happens. It needs nothing but Node's own fetch, which keeps its connections open.
const HUB = process.env.SSE_HUB_URL ?? "http://127.0.0.1:8080";
const TOKEN = process.env.SSE_HUB_TOKEN;
const TEMPORARY = [408, 425, 429, 500, 502, 503, 504];
/** Milliseconds that a request takes at most, with all its attempts. */
const TIMEOUT = 10_000;

/** The hub refused, in its own words. `status` is 0 where it did not answer. */
export class HubError extends Error {
  /**
   * @param {string} message
   * @param {number} [status]
   * @param {{retryAfter?: number, cause?: unknown}} [about]
   */
  constructor(message, status = 0, { retryAfter = 0, cause } = {}) {
    super(message, { cause });
    this.status = status;
    /** Milliseconds that the hub asks to wait. */
    this.retryAfter = retryAfter;
  }

  /** Whether it may go well later. */
  get isTemporary() {
    return this.status === 0 || TEMPORARY.includes(this.status);
  }
}

/**
 * Publishes an event once, however often it has to be sent.
 *
 * @param {string} eventType
 * @param {unknown} data
 * @param {string | string[]} [topic] Everyone gets it, if left out.
 * @param {object} [more] The hub's other fields, such as `id` and `user_id`.
 */
export function publish(eventType, data, topic, more = {}) {
  return post("/events", { event_type: eventType, data, topic, id: crypto.randomUUID(), ...more });
}

/**
 * Says how far a job is. A job that the hub does not know is created. A job that was cancelled is an error with the status 409.
 *
 * @param {string} jobId
 * @param {number} progress
 * @param {string} [message]
 */
export function sendProgressUpdate(jobId, progress, message) {
  return update(jobId, "progress", { progress, message });
}

/**
 * Says that a job is done, and with what.
 *
 * @param {string} jobId
 * @param {unknown} result
 */
export function sendCompletionUpdate(jobId, result) {
  return update(jobId, "complete", { result });
}

/**
 * Says that a job has failed, and why.
 *
 * @param {string} jobId
 * @param {unknown} error
 */
export function sendErrorUpdate(jobId, error) {
  return update(jobId, "error", { error: error instanceof Error ? error.message : String(error) });
}

/**
 * @param {string} jobId
 * @param {object} [more] A `title`, a `total`.
 */
export function createJob(jobId, more = {}) {
  return post("/jobs", { job_id: jobId, ...more });
}

/** @param {string} jobId */
export function cancelJob(jobId) {
  return post(`${pathOf(jobId)}/cancel`, {});
}

/**
 * Waits until a job has ended, and says how: `completed`, `error` or `cancelled`.
 *
 * @param {string} jobId
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
export async function jobEnd(jobId, signal) {
  for (let version = 0; ; ) {
    try {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(35_000)]);
      const job = await send(`${pathOf(jobId)}?wait=25&after=${version}`, { signal: limit });
      if (!["pending", "in_progress"].includes(job.status)) return job.status;
      version = job.version;
    } catch (error) {
      if (signal.aborted || !(error instanceof HubError && error.isTemporary)) throw error;
      await sleep(1000 * Math.random() + error.retryAfter);
    }
  }
}

/** @param {string} jobId */
function pathOf(jobId) {
  return `/jobs/${encodeURIComponent(jobId)}`;
}

/**
 * @param {string} jobId
 * @param {string} what
 * @param {object} body
 */
async function update(jobId, what, body) {
  const path = `${pathOf(jobId)}/${what}`;
  try {
    return await post(path, body);
  } catch (error) {
    if (!isStatus(error, 404)) throw error;
  }
  await createJob(jobId).catch((error) => {
    if (!isStatus(error, 409)) throw error; // somebody else was faster
  });
  return post(path, body);
}

/**
 * @param {string} path
 * @param {object} body
 */
async function post(path, body) {
  const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const until = Date.now() + TIMEOUT;
  for (let attempt = 1; ; attempt += 1) {
    try {
      // A hub that hangs leaves time for another attempt.
      return await send(path, { ...request, signal: AbortSignal.timeout(Math.ceil((until - Date.now()) / 2)) });
    } catch (error) {
      if (!(error instanceof HubError && error.isTemporary)) throw error;
      const wait = Math.random() * Math.min(100 * 2 ** attempt, 2000) + error.retryAfter;
      if (Date.now() + wait >= until) throw error;
      await sleep(wait);
    }
  }
}

/**
 * @param {string} path
 * @param {RequestInit} request
 * @returns {Promise<any>}
 */
async function send(path, request) {
  const headers = { ...request.headers, ...(TOKEN && { Authorization: `Bearer ${TOKEN}` }) };
  let answer, said;
  try {
    answer = await fetch(HUB + path, { ...request, headers });
    said = await answer.json();
  } catch (cause) {
    throw new HubError(`${HUB} does not answer: ${cause instanceof Error ? (cause.cause ?? cause.message) : cause}`, 0, { cause });
  }
  if (answer.ok) return said;
  const retryAfter = 1000 * (Number(answer.headers.get("Retry-After")) || 0);
  throw new HubError(said.detail ?? `the hub answered ${answer.status}`, answer.status, { retryAfter });
}

/**
 * @param {unknown} error
 * @param {number} status
 */
function isStatus(error, status) {
  return error instanceof HubError && error.status === status;
}

/** @param {number} milliseconds */
function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// Tells the hub what happens. It needs nothing but Node's own fetch, which keeps its connections open.
const HUB = process.env.SSE_HUB_URL ?? "http://127.0.0.1:8080";
const TOKEN = process.env.SSE_HUB_TOKEN;
const TEMPORARY = [408, 425, 429, 500, 502, 503, 504];

/** The hub refused, in its own words. `status` is 0 where it did not answer. */
export class HubError extends Error {
  constructor(message, status, cause) {
    super(message, { cause });
    this.status = status;
  }
}

/** Publishes an event once, however often it has to be sent. */
export function publish(eventType, data, topic, more = {}) {
  return post("/events", { event_type: eventType, data, topic, id: crypto.randomUUID(), ...more });
}

export const sendProgressUpdate = (jobId, progress, message) => update(jobId, "progress", { progress, message });
export const sendCompletionUpdate = (jobId, result) => update(jobId, "complete", { result });
export const sendErrorUpdate = (jobId, error) => update(jobId, "error", { error: String(error?.message ?? error) });

async function update(jobId, what, body) {
  const path = `/jobs/${encodeURIComponent(jobId)}/${what}`;
  try {
    return await post(path, body);
  } catch (error) {
    if (error.status !== 404) throw error;
  }
  await post("/jobs", { job_id: jobId }).catch((error) => {
    if (error.status !== 409) throw error; // somebody else was faster
  });
  return post(path, body);
}

/** One request, tried again where that may help. It takes ten seconds at most. */
async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (TOKEN) headers.Authorization = `Bearer ${TOKEN}`;
  const until = Date.now() + 10_000;
  for (let attempt = 1; ; attempt += 1) {
    const { answer, error } = await send(path, { method: "POST", headers, body: JSON.stringify(body) }, until);
    if (answer) return answer;
    const wait = Math.random() * 100 * 2 ** attempt + (error.retryAfter ?? 0);
    const mayHelp = error.status === 0 || TEMPORARY.includes(error.status);
    if (!mayHelp || attempt === 4 || Date.now() + wait > until) throw error;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function send(path, request, until) {
  try {
    const signal = AbortSignal.timeout(Math.max(1, Math.ceil((until - Date.now()) / 2)));
    const answer = await fetch(HUB + path, { ...request, signal });
    const said = await answer.json();
    if (answer.ok) return { answer: said };
    const error = new HubError(said.detail ?? `the hub answered ${answer.status}`, answer.status);
    error.retryAfter = 1000 * (Number(answer.headers.get("Retry-After")) || 0);
    return { error };
  } catch (cause) {
    return { error: new HubError(`${HUB} does not answer: ${cause.cause?.message ?? cause.message}`, 0, cause) };
  }
}

/** What goes wrong, and what an answer says of it. */

/** What went wrong, and what comes next. */
export class ConnectionError extends Error {
  status = 0;
  code = "";
  isFinal = false;
  retryAfter = 0;

  /**
   * @param {string} message
   * @param {object} [about]
   * @param {number} [about.status] The status, of an answer or in an event `unavailable`; 0 when there was none.
   * @param {string} [about.code] The hub's name for the reason, such as `full`, `expired` or `ticket_used`.
   * @param {boolean} [about.isFinal] Whether it will not be tried again.
   * @param {number} [about.retryAfter] Milliseconds that the server asks to wait.
   * @param {unknown} [about.cause]
   */
  constructor(message, { cause, ...about } = {}) {
    super(message, { cause });
    this.name = "ConnectionError";
    // What is not known stays as it is.
    for (const [name, value] of Object.entries(about)) if (value !== undefined) Object.assign(this, { [name]: value });
  }
}

/** Refusals that pass by themselves. */
export const TEMPORARY = [408, 425, 429, 500, 502, 503, 504];

/**
 * Whether it is who asks that is refused.
 *
 * @param {{status: number}} answer
 */
export function isRefusal({ status }) {
  return status === 401 || status === 403;
}

/**
 * What an answer that is no stream says.
 *
 * @param {Response} answer
 */
export async function refusal(answer) {
  const text = (await answer.text().catch(() => "")).slice(0, 4096);
  const problem = parsed(text);
  const header = answer.headers.get("retry-after") ?? "";
  const retryAfter = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return new ConnectionError(problem?.detail ?? `${answer.status} ${answer.statusText}`, {
    status: answer.status,
    code: problem?.code,
    retryAfter: Math.max(0, retryAfter || 0),
  });
}

/**
 * JSON's value, or the text where it is none.
 *
 * @param {string} text
 * @returns {any}
 */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// The REST API. Every refusal is a Refusal, whatever kept the answer away.
import { setup } from "./lib.js";

const TIMEOUT_MS = 10_000;

export class Refusal extends Error {
  /** `problem` is RFC 9457 problem details; `retryAfter` in seconds. */
  constructor(problem, retryAfter = null) {
    super(problem.detail || problem.title);
    Object.assign(this, { ...problem, errors: problem.errors || [], retryAfter });
  }

  /** The sentence for a field, by the pointer to it. */
  at(pointer) {
    return this.errors.find((error) => error.pointer === pointer)?.detail;
  }
}

// A sign-in changes the token that each tab has got with its page.
const SIGNED_ELSEWHERE = "Somebody has signed in or out in another tab: reload this page.";

export const UNREACHABLE = "UNREACHABLE";

let restUntil = 0;
/** Whether the server has asked for fewer requests: what only refreshes the page waits. */
export const isResting = () => Date.now() < restUntil;

export async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: {
        Accept: "application/json",
        ...(body && { "Content-Type": "application/json" }),
        ...(method !== "GET" && { "X-CSRFToken": setup.csrfToken }),
      },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    const detail = "The engine does not answer.";
    throw new Refusal({ status: 0, code: UNREACHABLE, title: "No answer", detail });
  }
  const content = await answer.json().catch(() => ({}));
  if (answer.ok) return content;
  const retryAfter = Number(answer.headers.get("Retry-After")) || null;
  if (answer.status === 429) restUntil = Date.now() + (retryAfter || 1) * 1000;
  if (answer.status === 403 && content.detail?.startsWith("CSRF")) content.detail = SIGNED_ELSEWHERE;
  const problem = { status: answer.status, title: answer.statusText, code: "UNKNOWN", ...content };
  throw new Refusal(problem, retryAfter);
}

export const get = (path) => ask("GET", path);
export const post = (path, body = {}) => ask("POST", path, body);

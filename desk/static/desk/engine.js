// The engine as a whole: its numbers, asked for while the page is seen.
import { get, isResting } from "./api.js";
import { cell, html, useCell, useNow, useRepeat } from "./lib.js";
import { clock, when } from "./format.js";

const EVERY_SECONDS = 2;
const STALE_MS = 10_000;
const MOST_CELLS = 40;

/** stats: the last answer; at: when it came; refusal: why the newest did not. */
export const engine = cell({ stats: null, at: 0, refusal: null });

async function look() {
  if (isResting()) return;
  try {
    engine.set({ stats: await get("/api/orders/stats"), at: Date.now(), refusal: null });
  } catch (refusal) {
    engine.patch({ refusal });
  }
}

export const lookSoon = () => setTimeout(look, 300);

export function Gauges() {
  const { stats, at } = useCell(engine);
  const now = useNow(EVERY_SECONDS);
  useRepeat(look, EVERY_SECONDS);
  if (!stats) return html`<section class="gauges card" aria-label="Engine"><p class="muted">Loading …</p></section>`;
  const { queue, websocket, limits = {}, starts, workers } = stats;
  return html`
    <section class=${`gauges card ${now - at > STALE_MS ? "stale" : ""}`} aria-label="Engine">
      <${Gauge} name="waiting" value=${queue.waiting} />
      <${Execution} active=${queue.active} limit=${limits.concurrency} />
      <${Gauge} name="completed" value=${queue.completed} />
      <${Gauge} name="failed" value=${queue.failed} />
      <${Starts} count=${starts?.lastMinute} limit=${limits.startsPerMinute} />
      <${Gauge} name="sockets" value=${websocket.connections} />
      <${Gauge} name="workers" value=${workers ?? "?"} bad=${workers === 0 && "none is running"} />
      ${now - at > STALE_MS && html`<p class="note">as of ${clock(at)}</p>`}
    </section>`;
}

function Gauge({ name, value, bad, children }) {
  const shown = typeof value === "number" ? value.toLocaleString("en-US") : value;
  return html`
    <div class="gauge" data-gauge=${name}>
      <span class="name">${name}</span>
      <strong>${shown}</strong>
      ${bad && html`<span class="error">${bad}</span>`}
      ${children}
    </div>`;
}

/** Orders in execution: a cell for each place, filled when it is taken. */
function Execution({ active, limit }) {
  const value = limit ? `${active} of ${limit}` : active;
  const cells = limit && limit <= MOST_CELLS ? [...Array(limit).keys()] : [];
  return html`
    <${Gauge} name="in execution" value=${value}>
      <span class="cells" aria-hidden="true">
        ${cells.map((n) => html`<i key=${n} class=${n < active ? "taken" : ""} />`)}
      </span>
    <//>`;
}

function Starts({ count = "?", limit }) {
  return html`
    <${Gauge} name="starts this minute" value=${limit ? `${count} of ${limit}` : count}>
      ${limit && html`<meter aria-label="starts this minute" min="0" max=${limit} value=${count} />`}
    <//>`;
}

/** What keeps the engine from taking orders, above everything else. */
export function Alerts() {
  const { stats, at, refusal } = useCell(engine);
  const halt = stats?.trading;
  return html`
    ${refusal && html`<${Away} refusal=${refusal} at=${at} />`}
    ${!refusal && halt?.halted && html`
      <p class="alert" role="alert" data-alert="halted">
        <strong>Trading is halted</strong> since ${when(halt.since)}${halt.reason ? `: ${halt.reason}` : ""}.
        New orders are refused; orders that have started are brought to their end.
      </p>`}`;
}

function Away({ refusal, at }) {
  const known = at ? ` Below is what was known at ${clock(at)}.` : "";
  if (refusal.status === 401 || refusal.status === 403)
    return html`<p class="alert" role="alert" data-alert="signed-out">
      You are not signed in any more. <a href=${`/login?next=${encodeURIComponent(location.pathname + location.search)}`}>Sign in</a></p>`;
  if (refusal.status === 429)
    return html`<p class="alert" role="alert" data-alert="busy">Too many requests: this page asks less often for a while.${known}</p>`;
  const text = refusal.status
    ? `The engine answers, but cannot do its work: ${refusal.detail}`
    : "The engine does not answer.";
  return html`<p class="alert" role="alert" data-alert="away"><strong>${text}</strong>${known} Trying again every ${EVERY_SECONDS} s.</p>`;
}

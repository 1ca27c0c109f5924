// One order, step by step.
import { html, useCell, useEffect, useNow, useState } from "./lib.js";
import { cancel, orders, selected } from "./orders.js";
import { amount, clock, duration, grouped, percent, short, shortHash, shortId, venueName } from "./format.js";
import { Icon, Status, STEPS, TERMINAL } from "./status.js";
import { Quotes } from "./quotes.js";

const TITLE = document.title;

export function Timeline({ onClose }) {
  const { id, refusal } = useCell(selected);
  const order = useCell(orders).get(id);
  const heading = order && `${grouped(order.amount)} ${order.tokenIn} → ${order.tokenOut}`;
  useEffect(() => {
    document.title = order ? `${heading} ${order.status} · ${TITLE}` : TITLE;
  }, [heading, order?.status]);
  if (!id) return html`
    <section class="timeline card" aria-label="Order">
      <h2>Order</h2>
      <p class="muted">Place an order, or choose one in the table, to follow it step by step.</p>
    </section>`;
  if (refusal) return html`
    <section class="timeline card" aria-label="Order">
      <h2>Order ${shortId(id)}</h2>
      <p class="error">${refusal.status === 404 ? "There is no such order, or it is not yours." : refusal.message}</p>
    </section>`;
  if (!order) return html`<section class="timeline card" aria-label="Order"><p class="muted">Loading …</p></section>`;
  return html`
    <section class="timeline card" aria-label="Order" data-order=${id}>
      <header>
        <h2>${heading}</h2>
        <${Status} status=${order.status} />
        ${onClose && html`<button class="quiet" onClick=${onClose} aria-label="Close this order">✕</button>`}
      </header>
      <p class="muted facts">
        <a href=${`/orders/${id}`}>${id}</a> <${Copy} text=${id} what="order id" />
        <span>slippage ≤ ${percent(order.slippage)}</span>
        ${order.deadline && html`<span>deadline ${clock(order.deadline)}</span>`}
      </p>
      <p class="hidden" aria-live="polite">Order ${shortId(id)}: ${order.status}</p>
      <${Steps} order=${order} />
      <${Withdraw} order=${order} />
      <details class="raw">
        <summary>Raw frames (${order.events.length})</summary>
        <pre tabindex="0">${order.events.map((frame) => JSON.stringify(frame, null, 1)).join("\n")}</pre>
      </details>
    </section>`;
}

/** What has happened, then what is to come, then the result: six steps where nothing goes wrong. */
function Steps({ order }) {
  const { events } = order;
  const ended = TERMINAL.has(order.status);
  const ahead = ended ? [] : STEPS.slice(STEPS.indexOf(order.status) + 1);
  return html`
    <ol class="steps">
      ${events.map((event, n) => html`
        <${Step} key=${event.seq} event=${event} next=${events[n + 1]} order=${order} />`)}
      ${ahead.map((status) => html`<${Rung} key=${status} status=${status} state="ahead" />`)}
      <${Result} key="result" order=${order} end=${events.at(-1)} />
    </ol>`;
}

function Rung({ status, state, title, time, spent, children }) {
  return html`
    <li class=${`step ${state}`} data-step=${status} aria-current=${state === "now" ? "step" : null}>
      <span class="mark" data-status=${status}><${Icon} name=${status} /></span>
      <span class="title">${title || status}</span>
      <time>${time}</time>
      <span class="spent">${spent}</span>
      ${children && html`<div class="about">${children}</div>`}
    </li>`;
}

function Step({ event, next, order }) {
  const { status, attempt, data, previousStatus } = event;
  const ended = TERMINAL.has(status);
  const title = [
    status,
    status === "pending" && data.error && "again, for a retry",
    status === "routing" && previousStatus !== "pending" && "again, taken over from a lost worker",
    attempt > 1 && status !== "pending" && `(attempt ${attempt})`,
  ].filter(Boolean).join(" ");
  return html`
    <${Rung}
      status=${status} title=${title}
      state=${next || ended ? "done" : "now"}
      time=${clock(event.timestamp, { ms: true })}
      spent=${next ? duration(new Date(next.timestamp) - new Date(event.timestamp)) : !ended && html`<${Running} from=${event.timestamp} />`}>
      ${status === "routing" && next?.status === "building" && html`<${Routed} data=${next.data} order=${order} />`}
      ${status === "pending" && data.error && html`<${Retry} event=${event} waits=${!next} />`}
      ${status === "submitted" && html`<${Hash} hash=${data.txHash} />`}
    <//>`;
}

function Running({ from }) {
  const now = useNow(0.5);
  return html`${duration(now - new Date(from))} …`;
}

/** The decision, which the event after routing brings. */
function Routed({ data, order }) {
  return html`
    <p>${data.reason.text}</p>
    <${Quotes} route=${data} tokenIn=${order.tokenIn} tokenOut=${order.tokenOut} />`;
}

function Retry({ event: { data, attempt }, waits }) {
  const now = useNow(0.5);
  const left = new Date(data.retryAt) - now;
  return html`
    <p class="error"><b>${data.error.code}</b> ${data.error.message}</p>
    <p>Attempt ${attempt} follows at ${clock(data.retryAt)}${waits && left > 0 ? `, in ${Math.ceil(left / 1000)} s` : ""}.</p>`;
}

function Hash({ hash }) {
  return html`<p class="hash"><code title=${hash}>${shortHash(hash)}</code> <${Copy} text=${hash} what="transaction hash" /></p>`;
}

function Result({ order, end }) {
  const { status, tokenOut } = order;
  if (!TERMINAL.has(status))
    return html`<${Rung} status="result" state="ahead" />`;
  const total = new Date(order.completedAt) - new Date(order.createdAt);
  return html`
    <${Rung} status="result" state="done" time="" spent=${html`<b>${duration(total)}</b> in all`}>
      ${status === "confirmed" && html`
        <p><b>${amount(order.amountOut, tokenOut)}</b> received through ${venueName(order.venue)},
          at ${short(order.executedPrice)} ${tokenOut} per ${order.tokenIn}.</p>
        <p class="muted">${comparedWithQuote(order)}</p>`}
      ${status === "failed" && html`
        <p class="error" data-failure=${order.failure.code}><b>${order.failure.code}</b> ${order.failure.message}</p>
        <p class="muted">${order.attempt > 1 ? `${order.attempt} attempts were made. ` : ""}Nothing was swapped.</p>`}
      ${status === "cancelled" && html`<p>Withdrawn${end?.data.by === "operator" && " by an operator"} while it waited. Nothing was swapped.</p>`}
      ${status === "expired" && html`<p>Its deadline passed while it waited. Nothing was swapped.</p>`}
    <//>`;
}

function comparedWithQuote({ realizedSlippage, expectedPrice, minAmountOut, tokenOut }) {
  const slipped = Number(realizedSlippage);
  const by = percent(String(Math.abs(slipped)));
  const than = slipped > 0 ? `${by} less than quoted` : slipped < 0 ? `${by} more than quoted` : "as quoted";
  return `${than} (${short(expectedPrice)}); at least ${amount(minAmountOut, tokenOut)} was asked for.`;
}

export function Withdraw({ order, compact }) {
  const [state, setState] = useState({});
  if (order.status !== "pending") return null;
  const withdraw = async ({ currentTarget }) => {
    if (state.busy) return;
    setState({ busy: true });
    const near = currentTarget.closest("tr, .timeline").querySelector("a");
    try {
      await cancel(order.orderId);
      near.focus(); // the button has gone
    } catch (refusal) {
      setState({ refusal });
    }
  };
  return html`
    <span class="withdraw">
      <button class="small" aria-disabled=${Boolean(state.busy)} onClick=${withdraw}
        aria-label=${`Cancel order ${shortId(order.orderId)}`}>${compact ? "Cancel" : "Cancel order"}</button>
      ${state.refusal && html`<span class="error">${state.refusal.message}</span>`}
    </span>`;
}

function Copy({ text, what }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    const timer = copied && setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  if (!navigator.clipboard) return null; // a page that was not sent over TLS
  const copy = () => navigator.clipboard.writeText(text).then(() => setCopied(true), () => {});
  return html`<button class="copy" onClick=${copy} aria-label=${`Copy ${what}`}>${copied ? "copied" : "copy"}</button>`;
}

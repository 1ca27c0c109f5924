// The owner's orders, newest first. Rows change as events come; their order does not.
import { address, go, PAIRS, PERIODS } from "./address.js";
import { html, setup, useCell, useEffect } from "./lib.js";
import { list, loadList, orders, selected, showFresh } from "./orders.js";
import { amount, duration, short, shortId, venueName, when } from "./format.js";
import { Status, STATUSES } from "./status.js";
import { Withdraw } from "./timeline.js";

const PERIOD_NAMES = { "5m": "last 5 minutes", "15m": "last 15 minutes", "1h": "last hour", "24h": "last 24 hours" };

export function Orders({ onSelect }) {
  const { status, pair, venue, since, cursor } = useCell(address);
  const { ids, fresh, state, refusal, next, previous } = useCell(list);
  const known = useCell(orders);
  useEffect(() => void loadList(), [status, pair, venue, since, cursor]);
  const filtered = status || pair || venue || since;
  const rows = ids.map((id) => known.get(id)).filter(Boolean);
  return html`
    <section class="orders card" aria-label="Orders" aria-busy=${state === "loading"} id="orders">
      <header>
        <h2>Orders</h2>
        <${Filters} status=${status} pair=${pair} venue=${venue} since=${since} />
        ${fresh.size > 0 && html`<button class="fresh" onClick=${showFresh}>${fresh.size > 99 ? "99+" : fresh.size} new</button>`}
      </header>
      ${state === "refused" && html`
        <p class="error">${refusal.message} <button class="small" onClick=${() => (cursor ? go({ cursor: "" }) : loadList())}>Try again</button></p>`}
      ${state === "loading" && !rows.length && html`<p class="muted empty">Loading …</p>`}
      ${state === "loaded" && !rows.length && html`<${Nothing} filtered=${filtered} cursor=${cursor} />`}
      ${rows.length > 0 && html`
        <table class="list">
          <thead><tr><th>Order</th><th>Status</th><th>Swap</th><th>Venue</th><th>Received</th><th>Price</th>
            <th>Attempt</th><th>Took</th><th>Placed</th><th><span class="hidden">Actions</span></th></tr></thead>
          <tbody>${rows.map((order) => html`<${Row} key=${order.orderId} order=${order} onSelect=${onSelect} />`)}</tbody>
        </table>`}
      <nav class="pages" aria-label="Pages">
        <button class="small" disabled=${!previous} onClick=${turnTo(previous)}>← Newer</button>
        <button class="small" disabled=${!next} onClick=${turnTo(next)}>Older →</button>
      </nav>
    </section>`;
}

function Row({ order, onSelect }) {
  const { id } = useCell(selected);
  const { orderId, failure, completedAt, createdAt } = order;
  const choose = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    onSelect(orderId);
  };
  const fromRow = (event) => event.target.closest("a, button") || onSelect(orderId);
  return html`
    <tr class=${id === orderId ? "selected" : ""} data-order=${orderId} onClick=${fromRow}>
      <td><a href=${`/orders/${orderId}`} onClick=${choose} aria-current=${id === orderId ? "true" : null}>${shortId(orderId)}</a></td>
      <td><${Status} status=${order.status} /></td>
      <td title=${`${order.amount} ${order.tokenIn}`}>${amount(order.amount, order.tokenIn)} → ${order.tokenOut}</td>
      <td data-label="venue">${venueName(order.venue)}</td>
      <td data-label=${failure ? "failed" : "received"}>${failure ? html`<span class="error">${failure.code}</span>` : amount(order.amountOut, order.tokenOut)}</td>
      <td data-label="price">${short(order.executedPrice)}</td>
      <td data-label="attempt">${order.attempt}</td>
      <td data-label="took">${completedAt ? duration(new Date(completedAt) - new Date(createdAt)) : "…"}</td>
      <td data-label="placed">${when(createdAt)}</td>
      <td><${Withdraw} order=${order} compact /></td>
    </tr>`;
}

function Filters({ status, pair, venue, since }) {
  const set = (name) => (event) => go({ [name]: event.target.value, cursor: "" });
  return html`
    <div class="filters" role="group" aria-label="Filters">
      <${Choice} name="status" any="any status" value=${status} options=${STATUSES} onChange=${set("status")} />
      <${Choice} name="pair" any="any pair" value=${pair} options=${PAIRS} onChange=${set("pair")} text=${(p) => p.replace("-", " → ")} />
      <${Choice} name="venue" any="any venue" value=${venue} options=${setup.venues} onChange=${set("venue")} text=${venueName} />
      <${Choice} name="time" any="any time" value=${since} options=${Object.keys(PERIODS)} onChange=${set("since")} text=${(p) => PERIOD_NAMES[p]} />
      ${(status || pair || venue || since) && html`<button class="small" onClick=${clear}>Clear</button>`}
    </div>`;
}

function Choice({ name, any, value, options, onChange, text = (option) => option }) {
  return html`
    <select aria-label=${`Filter by ${name}`} onChange=${onChange} value=${value}>
      <option value="" selected=${!value}>${any}</option>
      ${options.map((option) => html`<option key=${option} value=${option} selected=${option === value}>${text(option)}</option>`)}
    </select>`;
}

/** Another page, from its first row on. */
const turnTo = (cursor) => () => {
  go({ cursor });
  document.getElementById("orders").scrollIntoView({ block: "nearest" });
};

const clear = () => go({ status: "", pair: "", venue: "", since: "", cursor: "" });

function Nothing({ filtered, cursor }) {
  if (filtered) return html`<p class="empty">No order matches. <button class="small" onClick=${clear}>Clear the filters</button></p>`;
  if (cursor) return html`<p class="empty">Nothing older. <button class="small" onClick=${() => go({ cursor: "" })}>To the newest</button></p>`;
  if (setup.user) return html`<p class="empty">${setup.user} has no orders yet: press <b>Swap</b> to place the first. What was placed signed out is seen signed out.</p>`;
  return html`<p class="empty">No orders yet. The ticket is filled in: press <b>Swap</b> to place the first.</p>`;
}

// The order desk. ticket.js is where an order comes in, feed.js where its events arrive,
// orders.js where both meet; the other files draw.
import { address, go } from "./address.js";
import { Chart } from "./chart.js";
import { Alerts, Gauges } from "./engine.js";
import { connection } from "./feed.js";
import { html, render, setup, useCell, useEffect, useState } from "./lib.js";
import { select, selected } from "./orders.js";
import { Orders } from "./table.js";
import { Ticket } from "./ticket.js";
import { Timeline } from "./timeline.js";

function Desk() {
  const { order } = useCell(address);
  useEffect(() => {
    if (order !== selected.value.id) select(order);
  }, [order]);
  const choose = (id) => {
    go({ order: id });
    if (id) requestAnimationFrame(() => document.querySelector(".timeline")?.scrollIntoView({ block: "nearest" }));
  };
  const close = () => {
    const row = document.querySelector(`.list [data-order="${order}"] a`);
    choose("");
    (row || document.getElementById("amount")).focus();
  };
  return html`
    <a class="skip" href="#orders">Skip to the orders</a>
    <${Header} />
    <main class="desk">
      <${Alerts} />
      <${Ticket} onPlaced=${choose} />
      <${Gauges} />
      <${Timeline} onClose=${close} />
      <${Chart} />
      <${Orders} onSelect=${choose} />
    </main>`;
}

function OneOrder() {
  useEffect(() => void select(setup.orderId), []);
  return html`
    <${Header} />
    <main class="alone"><${Timeline} /><p><a href="/">To the order desk</a></p></main>`;
}

function Header() {
  return html`
    <header class="top">
      <h1><a href="/">Order desk</a></h1>
      <${Connection} />
      <nav aria-label="Site">
        <a href="/api/docs">API</a>
        ${(setup.isStaff || !setup.user) && html`<a href="/admin/">Admin</a>`}
        ${setup.flower && html`<a href=${setup.flower}>Flower</a>`}
      </nav>
      <${Theme} />
      ${setup.user && html`
        <form method="post" action="/logout" class="user">
          <input type="hidden" name="csrfmiddlewaretoken" value=${setup.csrfToken} />
          <span>${setup.user}</span> <button class="small">Sign out</button>
        </form>`}
    </header>`;
}

function Connection() {
  const { state, caughtUp, refusal } = useCell(connection);
  const updates = caughtUp === 1 ? "1 update" : `${caughtUp} updates`;
  return html`
    <p class="connection" role="status" data-state=${state}>
      <i aria-hidden="true"></i>${state === "refused" ? "not connected" : state}
      ${caughtUp !== null && html`<span class="resumed"> · resumed, ${updates} caught up</span>`}
      ${refusal && html`<span> · ${refusal.detail}</span>`}
    </p>`;
}

const THEMES = { "": "Auto", light: "Light", dark: "Dark" };

function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme || "");
  const choose = (event) => {
    const { value } = event.target;
    if (value) document.documentElement.dataset.theme = value;
    else delete document.documentElement.dataset.theme;
    try {
      localStorage.setItem("desk-theme", value);
    } catch { /* it holds for this page */ }
    setTheme(value);
  };
  return html`
    <select aria-label="Theme" value=${theme} onChange=${choose}>
      ${Object.entries(THEMES).map(([value, name]) => html`<option key=${name} value=${value} selected=${value === theme}>${name}</option>`)}
    </select>`;
}

const root = document.getElementById("desk");
root.replaceChildren();
render(setup.orderId ? html`<${OneOrder} />` : html`<${Desk} />`, root);

// Where an order is made: what is paid, what would be received now, and the deed.
import { isResting, post, UNREACHABLE } from "./api.js";
import { engine, lookSoon } from "./engine.js";
import { age, amount, grouped, percent, short, venueName } from "./format.js";
import { html, setup, useCell, useEffect, useNow, useRef, useRepeat, useState } from "./lib.js";
import { place, placeBatch } from "./orders.js";
import { Quotes } from "./quotes.js";

const QUOTE_SECONDS = 5;
const STALE_MS = 11_000;
const TYPING_MS = 250;
const CHANGE_SHOWN_MS = 15_000;
const AGAIN_MS = 600; // the second press of a double click places nothing
const LONGEST_AMOUNT = 48;
const BURST = 10;
const STEEP_IMPACT = 0.05;
const PRESETS = ["0.001", "0.005", "0.01"];
const TOKENS = Object.keys(setup.tokens);

export function Ticket({ onPlaced }) {
  const [form, setForm] = useState({ amount: "1.5", tokenIn: "SOL", tokenOut: "USDC", slippage: "0.01", custom: null });
  const [placing, setPlacing] = useState({});
  const closedUntil = useRef(0); // known at once, where `placing` is known when it is drawn
  const change = (changes) => {
    setForm({ ...form, ...changes });
    setPlacing(({ until }) => ({ until }));
  };
  const slippage = form.custom === null ? form.slippage : fractionOf(form.custom);
  const order = { tokenIn: form.tokenIn, tokenOut: form.tokenOut, amount: plain(form.amount), slippage };
  const problem = faultOf(form, slippage);
  const quoted = useQuote(problem ? null : order);
  const names = useNames(JSON.stringify(order));
  const errors = { ...problem, ...fieldErrors(quoted.refusal), ...fieldErrors(placing.refusal) };

  const submit = async (count) => {
    if (Date.now() < closedUntil.current) return;
    closedUntil.current = Infinity;
    setPlacing({ busy: count });
    try {
      const bodies = names(count).map((clientOrderId) => ({ ...order, clientOrderId }));
      const ids = count === 1 ? [await place(bodies[0])] : await placeBatch(bodies);
      names.done();
      closedUntil.current = Date.now() + AGAIN_MS;
      setPlacing({ placed: count });
      setTimeout(() => setPlacing((now) => (now.placed ? {} : now)), AGAIN_MS);
      onPlaced(ids[0]);
    } catch (refusal) {
      const until = refusal.retryAfter && Date.now() + refusal.retryAfter * 1000;
      closedUntil.current = until || 0;
      setPlacing({ refusal, until });
    }
    lookSoon();
  };
  const swap = () => {
    const amount = form.turned?.shown === form.amount ? form.turned.paid : received(quoted, form.amount);
    change({ tokenIn: form.tokenOut, tokenOut: form.tokenIn, amount, turned: { paid: form.amount, shown: amount } });
  };

  return html`
    <form class="ticket card" aria-label="Ticket" novalidate
      onKeyDown=${keepFromRepeating}
      onSubmit=${(event) => (event.preventDefault(), submit(1))}>
      <h2>Swap</h2>
      <${Side} name="amount" label="You pay" error=${errors.amount || errors.tokenIn}
        token=${form.tokenIn} onToken=${(tokenIn) => change(pair(form, { tokenIn }))}>
        <input id="amount" inputmode="decimal" autocomplete="off" maxlength=${LONGEST_AMOUNT} value=${form.amount}
          aria-invalid=${Boolean(errors.amount)} aria-describedby="amount-error"
          onInput=${(event) => change({ amount: event.target.value })} />
      <//>
      <button type="button" class="turn" onClick=${swap} aria-label="Swap direction">⇅</button>
      <${Side} name="receive" label="You receive (estimate)" error=${errors.tokenOut}
        token=${form.tokenOut} onToken=${(tokenOut) => change(pair(form, { tokenOut }))}>
        <output id="receive" for="amount" aria-live="off" title=${quoted.route?.expectedAmountOut}>${quoted.route ? short(quoted.route.expectedAmountOut, 9) : "—"}</output>
      <//>
      <${Slippage} form=${form} change=${change} error=${errors.slippage} />
      <${Comparison} quoted=${quoted} form=${form} />
      <${Deed} form=${form} quoted=${quoted} placing=${placing} blocked=${Object.keys(errors).length > 0} submit=${submit}
        onReady=${() => setPlacing({})} />
    </form>`;
}

function Side({ name, label, token, onToken, error, children }) {
  return html`
    <div class="side">
      <label for=${name}>${label}</label>
      <div class="pair">
        ${children}
        <select aria-label=${`${label}: token`} value=${token} onChange=${(event) => onToken(event.target.value)}>
          ${TOKENS.map((symbol) => html`<option key=${symbol} value=${symbol} selected=${symbol === token}>${symbol}</option>`)}
        </select>
      </div>
      <p class="error" id=${`${name}-error`} aria-live="polite">${error}</p>
    </div>`;
}

function Slippage({ form, change, error }) {
  return html`
    <fieldset class="slippage">
      <legend>Slippage at most</legend>
      ${PRESETS.map((value) => html`
        <label key=${value} class="choice"><input type="radio" name="slippage"
          checked=${form.custom === null && form.slippage === value}
          onChange=${() => change({ slippage: value, custom: null })} />${percent(value, 1)}</label>`)}
      <label class="choice"><input type="radio" name="slippage" checked=${form.custom !== null}
        onChange=${() => change({ custom: "2" })} />custom</label>
      ${form.custom !== null && html`
        <label class="custom"><input inputmode="decimal" value=${form.custom} aria-label="Slippage in per cent"
          aria-invalid=${Boolean(error)} aria-describedby="slippage-error"
          onInput=${(event) => change({ custom: event.target.value })} /> %</label>`}
      <p class="error" id="slippage-error" aria-live="polite">${error}</p>
    </fieldset>`;
}

/** What each venue would give now, and why the route is what it is. */
function Comparison({ quoted, form }) {
  const now = useNow(1);
  const { route, refusal, at, changed, asking } = quoted;
  const impact = route ? lostToDepth(route) : 0;
  const stale = at && now - at > STALE_MS;
  return html`
    <div class=${`comparison ${stale ? "stale" : ""}`} aria-label="Quotes" role="group">
      ${!route && !refusal && html`<p class="muted">${asking ? "Asking the venues …" : "Quotes appear here."}</p>`}
      ${route && html`
        <${Quotes} route=${route} tokenIn=${form.tokenIn} tokenOut=${form.tokenOut} />
        <p>${route.reason.text}.</p>
        ${impact >= STEEP_IMPACT && html`
          <p class="changed">So much at once moves the price by ${percent(impact)}: smaller orders lose less.</p>`}
        <p class="muted">At least <b>${amount(route.minAmountOut, form.tokenOut)}</b>, or the swap does not happen.
          Quoted ${age(now - at)}${stale ? ": out of date" : ""}.</p>`}
      ${changed && now - changed.at < CHANGE_SHOWN_MS && html`
        <p class="changed">Route changed: ${venueName(changed.from)} → ${venueName(changed.to)}</p>`}
      ${refusal && !Object.keys(fieldErrors(refusal)).length && html`
        <p class="error">${route ? "Since then no quote" : "No quote"}: ${refusal.message}</p>`}
    </div>`;
}

function Deed({ form, quoted, placing, blocked, submit, onReady }) {
  const { stats } = useCell(engine);
  const now = useNow(0.5);
  const wait = placing.until ? Math.ceil((placing.until - now) / 1000) : 0;
  useEffect(() => {
    if (placing.until && wait <= 0) onReady();
  }, [wait <= 0, placing.until]);
  const halted = stats?.trading?.halted;
  // Whoever presses keeps the focus: what is closed for a moment is not `disabled`.
  const closed = { disabled: blocked || halted, "aria-disabled": Boolean(placing.busy || placing.placed || wait > 0) };
  const deed = `Swap ${grouped(plain(form.amount))} ${form.tokenIn} for ${quoted.route ? `≈ ${short(quoted.route.expectedAmountOut, 5)} ` : ""}${form.tokenOut}`;
  const text = halted ? "Trading is halted" : wait > 0 ? `Too many orders: again in ${wait} s` : placing.busy === 1 ? "Placing …" : placing.placed === 1 ? "Placed" : blocked ? "Swap" : deed;
  return html`
    <div class="deed">
      <button class="primary" ...${closed}>${text}</button>
      <button type="button" class="burst" ...${closed} onClick=${() => submit(BURST)}
        title="Place ten of these orders at once">${placing.busy === BURST ? "…" : `×${BURST}`}<span class="hidden"> burst</span></button>
    </div>
    <${Refused} refusal=${placing.refusal} />`;
}

/** Why the order was not taken, and what to do. Faults of a field stand under the field. */
function Refused({ refusal }) {
  if (!refusal || Object.keys(fieldErrors(refusal)).length) return null;
  const advice = {
    [UNREACHABLE]: "It is not known whether the order arrived. Press again: it is placed once in any case.",
    503: "Press again in a moment: it is placed once in any case.",
    429: "",
  };
  return html`
    <p class="error" role="alert" data-refusal=${refusal.code}>
      <b>${refusal.code}</b> ${refusal.message}
      ${" "}${refusal.code === "TRADING_HALTED" ? "" : advice[refusal.code] ?? advice[refusal.status]}
      ${refusal.requestId && html`<small> ${refusal.requestId}</small>`}
    </p>`;
}

/** Every venue's quote, asked again every few seconds while the page is seen. */
function useQuote(order) {
  const key = JSON.stringify(order);
  const [settled, setSettled] = useState(key);
  const [quoted, setQuoted] = useState({});
  const turn = useRef(0);
  useEffect(() => {
    turn.current += 1;
    setQuoted(order ? { asking: true } : {});
    const timer = setTimeout(() => setSettled(key), TYPING_MS);
    return () => clearTimeout(timer);
  }, [key]);
  useRepeat(async () => {
    if (settled !== key || !order || isResting()) return;
    const mine = ++turn.current;
    try {
      const route = await post("/api/quotes", order);
      if (mine !== turn.current) return;
      setQuoted(({ route: last, changed }) => ({
        route,
        at: Date.now(),
        changed: last && last.venue !== route.venue ? { from: last.venue, to: route.venue, at: Date.now() } : changed,
      }));
    } catch (refusal) {
      if (mine === turn.current) setQuoted((known) => ({ ...known, asking: false, refusal }));
    }
  }, QUOTE_SECONDS, [settled, key]);
  return quoted;
}

/** A key that is held down places one order. */
function keepFromRepeating(event) {
  if (event.key === "Enter" && event.repeat) event.preventDefault();
}

/** The fraction by which a route returns less than the best price of its venues would. */
function lostToDepth({ venue, quotes, expectedPrice }) {
  const taken = quotes.filter((quote) => quote.midPrice && venue.split("+").includes(quote.venue));
  return 1 - Number(expectedPrice) / Math.max(...taken.map((quote) => Number(quote.midPrice)));
}

/** Client order ids of what is being placed. They stay until it is known to be stored: pressing
 *  again after an answer was lost places nothing twice. */
function useNames(key) {
  const kept = useRef({});
  const names = (count) => {
    if (kept.current.key !== `${count} ${key}`) {
      const ids = Array.from({ length: count }, () => `desk-${randomHex()}`);
      kept.current = { key: `${count} ${key}`, ids };
    }
    return kept.current.ids;
  };
  names.done = () => (kept.current = {});
  return names;
}

const randomHex = () =>
  [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Refusals of the server by field: "/amount", or "/orders/0/amount" of a batch. */
function fieldErrors(refusal) {
  const known = ["amount", "tokenIn", "tokenOut", "slippage"];
  const found = (refusal?.errors || []).map(({ pointer, detail }) => [pointer?.split("/").pop(), detail]);
  return Object.fromEntries(found.filter(([name]) => known.includes(name)));
}

/** What the page can tell by itself; the server has the last word. */
function faultOf(form, slippage) {
  const text = plain(form.amount);
  if (!/^\d*\.?\d*$/.test(text) || !/\d/.test(text)) return { amount: "Enter an amount, such as 1.5." };
  if (!/[1-9]/.test(text)) return { amount: "Enter an amount above 0." };
  const decimals = (text.split(".")[1] || "").replace(/0+$/, "").length;
  if (decimals > setup.tokens[form.tokenIn]) return { amount: `${form.tokenIn} has ${setup.tokens[form.tokenIn]} decimals, this has ${decimals}.` };
  if (slippage === null) return { slippage: "Enter per cent in steps of 0.01, above 0 and up to 50." };
  return null;
}

const GROUPED = /^\d{1,3}([,'’\s])\d{3}(\1\d{3})*(\.\d*)?$/;

/** "1,234.5", "1 234.5" -> "1234.5"; "1.234,5" and ",500" stay as they are, and are refused. */
function plain(text) {
  const typed = text.trim();
  const digits = GROUPED.test(typed) ? typed.replace(/[,'’\s]/g, "") : typed;
  return digits.replace(/\.$/, "").replace(/^\./, "0.").replace(/^0+(?=\d)/, "");
}

/** Per cent as the fraction that the API takes: "0.25" -> "0.0025"; null where it is none. */
function fractionOf(text) {
  if (!/^\d{1,2}(\.\d{0,2})?$/.test(text.trim())) return null;
  const bps = Math.round(Number(text) * 100);
  return bps > 0 && bps <= 5000 ? String(bps / 10_000) : null;
}

/** A token cannot be swapped for itself: choosing the other side's turns the pair. */
function pair({ tokenIn, tokenOut }, changes) {
  const turns = changes.tokenIn === tokenOut || changes.tokenOut === tokenIn;
  return turns ? { tokenIn: tokenOut, tokenOut: tokenIn } : changes;
}

/** After a turn of direction, what would have been received is paid; a second turn takes it back. */
function received({ route }, before) {
  return route ? short(route.expectedAmountOut).replaceAll(",", "") : before;
}

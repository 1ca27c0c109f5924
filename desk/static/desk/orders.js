// The orders on the page: what REST said of them, and each event of the feed since.
import { address, go, listQuery } from "./address.js";
import { get, post } from "./api.js";
import { Feed } from "./feed.js";
import { cell, setup } from "./lib.js";
import { TERMINAL } from "./status.js";

const PAGE = 25;
const FRAME_MS = 16;

/** Order objects by id, each with its `events` from seq 1 as far as they are known. */
export const orders = cell(new Map());
/** The page of the list: ids, and how many orders have come since. */
export const list = cell({ ids: [], next: "", previous: "", state: "loading", fresh: new Set() });
/** The order whose timeline is shown. */
export const selected = cell({ id: setup.orderId, refusal: null });

const BLANK = {
  clientOrderId: null, orderType: "market", seq: 0, attempt: 1, status: "pending", venue: null,
  quotes: [], expectedPrice: null, executedPrice: null, amountOut: null, minAmountOut: null,
  fee: null, feeToken: null, priceImpact: null, realizedSlippage: null, txHash: null,
  failure: null, completedAt: null, events: [],
};

// Events come one by one, and are drawn together.
let arrived = [];
let drawing = 0;

const feed = new Feed({
  orders: !setup.orderId,
  onEvent: collect,
  onStranger: countFresh,
  onResumed: () => setup.orderId || address.value.cursor || loadList({ quiet: true }),
});

function collect(frame) {
  arrived.push(frame);
  drawing ||= setTimeout(draw, FRAME_MS);
}

function draw() {
  drawing = 0;
  const frames = arrived;
  arrived = [];
  orders.set((known) => {
    const next = new Map(known);
    for (const frame of frames) {
      const order = next.get(frame.orderId);
      if (order) next.set(frame.orderId, after(order, frame));
    }
    return next;
  });
}

/** The order after one more event. */
function after(order, frame) {
  const isNext = frame.seq === order.events.length + 1;
  const events = isNext ? [...order.events, frame] : order.events;
  if (frame.seq <= order.seq) return { ...order, events };
  return {
    ...order,
    ...changesOf(frame),
    events,
    seq: frame.seq,
    status: frame.status,
    attempt: frame.attempt,
    updatedAt: frame.timestamp,
    completedAt: TERMINAL.has(frame.status) ? frame.timestamp : null,
  };
}

function changesOf({ status, data }) {
  switch (status) {
    case "pending":
      return data.error ? { venue: null, quotes: [], txHash: null, expectedPrice: null } : data;
    case "building":
      return {
        venue: data.venue, quotes: data.quotes,
        expectedPrice: data.expectedPrice, minAmountOut: data.minAmountOut,
      };
    case "submitted":
      return { txHash: data.txHash, venue: data.venue };
    case "confirmed":
      return data;
    case "failed":
      return { failure: { code: data.code, message: data.message } };
    default:
      return {};
  }
}

function keep(...found) {
  orders.set((known) => {
    const next = new Map(known);
    for (const order of found) {
      const before = next.get(order.orderId);
      const isNewer = before && before.seq > order.seq;
      next.set(order.orderId, isNewer ? before : { ...order, events: before?.events || [] });
    }
    return next;
  });
  for (const { orderId } of found) {
    const { status, seq } = orders.value.get(orderId);
    if (!feed.last.has(orderId)) feed.track(orderId, TERMINAL.has(status) ? Infinity : seq);
  }
}

/** Forgets what is neither listed nor selected. */
function forget() {
  const shown = new Set([...list.value.ids, selected.value.id]);
  orders.set((known) => new Map([...known].filter(([id]) => shown.has(id) || feed.untrack(id))));
}

// The list --------------------------------------------------------------------------------------

let asked = 0;

export async function loadList({ quiet = false } = {}) {
  const turn = ++asked;
  if (!quiet) list.patch({ state: "loading" });
  try {
    const page = await get(`/api/orders?${listQuery(address.value, PAGE)}`);
    if (turn !== asked) return;
    keep(...page.results);
    const ids = page.results.map((order) => order.orderId);
    const [next, previous] = [page.next, page.previous].map(cursorOf);
    list.set({ ids, next, previous, state: "loaded", fresh: new Set() });
    forget();
  } catch (refusal) {
    if (turn === asked) list.patch({ state: "refused", refusal });
  }
}

const cursorOf = (link) => (link ? new URL(link).searchParams.get("cursor") : "");

function countFresh(frame) {
  if (isWanted(frame)) list.patch({ fresh: new Set(list.value.fresh).add(frame.orderId) });
}

/** Whether an event says that an order has come that the list would show. */
function isWanted({ seq, status, data }) {
  const wanted = address.value;
  if (wanted.status ? status !== wanted.status : seq !== 1) return false;
  if (wanted.pair && `${data.tokenIn}-${data.tokenOut}` !== wanted.pair) return false;
  if (wanted.venue === "split") return Boolean(data.venue?.includes("+"));
  return !wanted.venue || data.venue === wanted.venue;
}

export function showFresh() {
  if (address.value.cursor) go({ cursor: "" });
  else loadList({ quiet: true });
}

// One order -------------------------------------------------------------------------------------

/** Shows an order's timeline: all its events from the first, then each as it comes. */
export async function select(id) {
  selected.set({ id, refusal: null });
  forget();
  if (!id) return;
  try {
    if (!orders.value.has(id)) keep(await get(`/api/orders/${encodeURIComponent(id)}`));
    if (selected.value.id === id) replay(id);
  } catch (refusal) {
    if (selected.value.id === id) selected.set({ id, refusal });
  }
}

function replay(id) {
  const { events, seq } = orders.value.get(id);
  if (!seq || events.length < seq) feed.track(id, events.length, { replay: true });
}

export async function place(body) {
  return placed([body], [await post("/api/orders/execute", body)])[0];
}

export async function placeBatch(bodies) {
  return placed(bodies, (await post("/api/orders/batch", { orders: bodies })).results);
}

function placed(bodies, answers) {
  const ids = answers.map((answer) => answer.orderId);
  const strangers = answers.filter(({ orderId }) => !orders.value.has(orderId));
  keep(...strangers.map(({ orderId, timestamp }) => {
    const body = bodies[ids.indexOf(orderId)];
    return { ...BLANK, ...body, orderId, createdAt: timestamp, updatedAt: timestamp };
  }));
  ids.forEach(replay);
  const fresh = new Set([...list.value.fresh].filter((id) => !ids.includes(id)));
  const listed = new Set([...(firstPage() ? [...ids].reverse() : []), ...list.value.ids]);
  list.patch({ fresh, ids: [...listed].slice(0, PAGE) });
  if (listed.size > PAGE) loadList({ quiet: true }); // where the next page begins
  return ids;
}

function firstPage() {
  const { cursor, status, pair, venue } = address.value;
  return !cursor && !status && !pair && !venue;
}

/** Raises Refusal: an order that has started is not withdrawn. */
export async function cancel(id) {
  keep(await post(`/api/orders/${id}/cancel`));
}

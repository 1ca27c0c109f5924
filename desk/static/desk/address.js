// What the page shows is in its address: a reload or a sent link shows the same.
import { cell, setup } from "./lib.js";
import { STATUSES } from "./status.js";

const NAMES = ["status", "pair", "venue", "since", "cursor", "order"];
const TOKENS = Object.keys(setup.tokens);
export const PAIRS = TOKENS.flatMap((a) => TOKENS.filter((b) => a !== b).map((b) => `${a}-${b}`));
export const PERIODS = { "5m": 300, "15m": 900, "1h": 3600, "24h": 86_400 };
const OFFERED = { status: STATUSES, pair: PAIRS, venue: setup.venues, since: Object.keys(PERIODS) };

/** A filter that is not offered is none. */
function read() {
  const query = new URLSearchParams(location.search);
  const values = NAMES.map((name) => [name, query.get(name) || ""]);
  return Object.fromEntries(values.map(([name, value]) => [name, OFFERED[name]?.includes(value) === false ? "" : value]));
}

export const address = cell(read());

addEventListener("popstate", () => address.set(read()));

/** `replace`: without a step in the browser's history. */
export function go(changes, { replace = false } = {}) {
  const next = { ...address.value, ...changes };
  const query = new URLSearchParams(Object.entries(next).filter(([, value]) => value));
  const url = location.pathname + (query.size ? `?${query}` : "");
  history[replace ? "replaceState" : "pushState"](null, "", url);
  address.set(next);
}

/** The list's query; `since` counts from now. */
export function listQuery({ status, pair, venue, since, cursor }, limit) {
  const [tokenIn, tokenOut] = pair.split("-");
  const createdAfter = PERIODS[since] && new Date(Date.now() - PERIODS[since] * 1000).toISOString();
  const wanted = { status, tokenIn, tokenOut, venue, createdAfter, cursor, limit };
  return new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
}

// What the page shows is in its address: a reload or a sent link shows the same.
import { cell } from "./lib.js";

const NAMES = ["status", "pair", "venue", "since", "cursor", "order"];
export const PERIODS = { "5m": 300, "15m": 900, "1h": 3600, "24h": 86_400 };

function read() {
  const query = new URLSearchParams(location.search);
  return Object.fromEntries(NAMES.map((name) => [name, query.get(name) || ""]));
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

// Numbers and times as people read them. Amounts stay decimal strings: no float ever holds one.

const SIGNIFICANT = 7;

/** "1234567.891000" -> "1,234,567.891" */
export function grouped(decimal) {
  const [whole, fraction = ""] = decimal.split(".");
  const rest = fraction.replace(/0+$/, "");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? `.${rest}` : "");
}

/** The leading digits of a decimal, cut and not rounded up: never more than there is. */
export function short(decimal, digits = SIGNIFICANT) {
  if (decimal === null || decimal === undefined) return "—";
  const [whole, fraction = ""] = decimal.split(".");
  const zeros = whole.replace("-", "") === "0" ? fraction.match(/^0*/)[0].length : 0;
  const room = zeros ? zeros + digits : Math.max(2, digits - whole.replace("-", "").length);
  return grouped(fraction ? `${whole}.${fraction.slice(0, room)}` : whole);
}

export function amount(decimal, token) {
  return decimal === null || decimal === undefined ? "—" : `${short(decimal)} ${token}`;
}

/** A fraction as per cent: "0.00253209" -> "0.25 %" */
export function percent(fraction, digits = 2) {
  if (fraction === null || fraction === undefined) return "—";
  const value = Number(fraction) * 100;
  if (value !== 0 && Math.abs(value) < 10 ** -digits) return `< ${10 ** -digits} %`;
  return `${value.toFixed(digits)} %`;
}

/** What `bestOut` is more than `out`, in basis points, rounded down. */
export function bpsAbove(bestOut, out) {
  const [best, other] = aligned(bestOut, out);
  return other === 0n ? 0 : Number(((best - other) * 10_000n) / other);
}

export function isMore(a, b) {
  const [left, right] = aligned(a, b);
  return left > right;
}

function aligned(...decimals) {
  const parts = decimals.map((decimal) => decimal.split("."));
  const width = Math.max(...parts.map(([, fraction = ""]) => fraction.length));
  return parts.map(([whole, fraction = ""]) => BigInt(whole + fraction.padEnd(width, "0")));
}

/** Milliseconds: 217 -> "217 ms", 2874 -> "2.87 s", 75000 -> "1 min 15 s" */
export function duration(ms) {
  if (ms === null || ms === undefined) return "—";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(2)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

export function age(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}

const pad = (number, width = 2) => String(number).padStart(width, "0");

export function clock(timestamp, { ms = false } = {}) {
  const at = new Date(timestamp);
  const text = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return ms ? `${text}.${pad(at.getMilliseconds(), 3)}` : text;
}

/** The time, with the day where it is not today's. */
export function when(timestamp) {
  const at = new Date(timestamp);
  const today = new Date().toDateString() === at.toDateString();
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} `;
  return (today ? "" : day) + clock(timestamp);
}

/** "ord_1795551005704_0fhwriod71" -> "…0fhwriod71" */
export const shortId = (orderId) => `…${orderId.slice(-10)}`;
export const shortHash = (hash) => `${hash.slice(0, 8)}…${hash.slice(-8)}`;

export const venueName = (venue) =>
  venue ? venue.split("+").map((name) => name[0].toUpperCase() + name.slice(1)).join(" + ") : "—";

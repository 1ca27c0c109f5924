// A status is an icon, a word and a colour: never a colour alone.
import { html } from "./lib.js";

export const STEPS = ["pending", "routing", "building", "submitted", "confirmed"];
export const TERMINAL = new Set(["confirmed", "failed", "cancelled", "expired"]);
export const STATUSES = [...STEPS, "failed", "cancelled", "expired"];

const ICONS = {
  pending: "M8 4.5V8l2.5 1.5M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12",
  routing: "M2.5 8h4m0 0L10 4.5h3.5m-7 3.5L10 11.5h3.5M12 3l1.5 1.5L12 6m0 4 1.5 1.5L12 13",
  building: "M2.5 5 8 2.5 13.5 5v6L8 13.5 2.5 11zm0 0L8 7.5 13.5 5M8 7.5v6",
  submitted: "M13.5 2.5 7 9m6.5-6.5-4 11L7 9 2.5 6.5z",
  confirmed: "m3 8.5 3.5 3.5L13 4.5",
  failed: "m4 4 8 8m0-8-8 8",
  cancelled: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12M3.8 12.2l8.4-8.4",
  expired: "M4.5 2.5h7m-7 11h7M5.5 2.5c0 3 5 4 5 7v4m0-11c0 3-5 4-5 7v4",
  result: "M2.5 13.5h11M4 11V8m4 3V4m4 7V6.5",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;
}

export function Status({ status }) {
  return html`<span class="status" data-status=${status}><${Icon} name=${status} />${status}</span>`;
}

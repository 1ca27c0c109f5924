// The WebSocket: every event of the owner's orders, and after a break what was missed meanwhile.
//
// The feed keeps, for each order that the page shows, the seq of its newest event. An event that is
// not the next one is not used: the order is subscribed from its last seq, and the server sends
// what is missing, in order.
import { cell } from "./lib.js";
import { TERMINAL } from "./status.js";

const PATIENCE_MS = 40_000; // the server says something every 15 s
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;
const NOTICE_MS = 6000;

/** state: connecting, live, resuming, reconnecting, refused; caughtUp: events of the last resume. */
export const connection = cell({ state: "connecting", caughtUp: null, refusal: null });

export class Feed {
  /** `orders`: follow all of the owner's orders. `onEvent` gets each event of a known order once,
   *  in order; `onStranger` those of orders that the page does not show. */
  constructor({ orders, onEvent, onStranger = () => {}, onResumed = () => {} }) {
    Object.assign(this, { orders, onEvent, onStranger, onResumed });
    this.last = new Map(); // Infinity: the order has ended
    this.asked = new Set(); // orders whose missing events are on their way
    this.pause = FIRST_PAUSE_MS;
    this.met = false;
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
    this.connect();
  }

  /** Deliver this order's events after `seq`. With `replay`, those stored as well. */
  track(orderId, seq, { replay = false } = {}) {
    this.last.set(orderId, seq);
    this.asked.delete(orderId);
    if (replay) this.subscribe(orderId);
  }

  untrack(orderId) {
    this.last.delete(orderId);
  }

  subscribe(orderId) {
    if (this.asked.has(orderId) || this.last.get(orderId) === Infinity) return;
    this.asked.add(orderId);
    this.say({ type: "subscribe", orderId, afterSeq: this.last.get(orderId) });
  }

  say(frame) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  connect() {
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/orders/execute`);
    this.socket = socket;
    this.refusal = null;
    this.watch();
    socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
    socket.onclose = ({ code }) => socket === this.socket && this.lost(code);
  }

  /** A socket that stays silent is given up. */
  watch() {
    clearTimeout(this.watchdog);
    const socket = this.socket;
    this.watchdog = setTimeout(() => {
      socket.close();
      if (socket === this.socket) this.lost(1006);
    }, PATIENCE_MS);
  }

  lost(code) {
    clearTimeout(this.watchdog);
    this.socket = null;
    const refused = [4401, 4403].includes(code);
    connection.set({
      state: refused ? "refused" : "reconnecting",
      caughtUp: null,
      refusal: refused ? this.refusal : null,
    });
    if (refused) return;
    this.timer = setTimeout(() => this.connect(), this.pause * (0.75 + Math.random() / 2));
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE_MS);
  }

  hurry() {
    if (this.socket || connection.value.state === "refused") return;
    this.pause = FIRST_PAUSE_MS;
    this.connect();
  }

  hear(frame) {
    this.watch();
    if (frame.type === "hello") this.begin();
    else if (frame.type === "order.status") this.take(frame);
    else if (frame.type === "pong") this.resumed();
    else if (frame.type === "heartbeat") this.ask();
    else if (frame.type === "error") this.refusal = frame;
  }

  /** The pong comes after the answers to everything asked before it. */
  begin() {
    this.pause = FIRST_PAUSE_MS;
    this.missed = 0;
    connection.patch({ state: this.met ? "resuming" : "connecting" });
    if (this.orders) this.say({ type: "subscribe", scope: "all" });
    this.ask();
    this.say({ type: "ping" });
  }

  /** For what is missing of each order. `scope: all` does not say what it lost while Redis was away. */
  ask() {
    this.asked.clear();
    for (const orderId of this.last.keys()) this.subscribe(orderId);
  }

  resumed() {
    if (connection.value.state === "live") return;
    const caughtUp = this.met ? this.missed : null;
    connection.set({ state: "live", caughtUp, refusal: null });
    if (this.met) {
      setTimeout(() => connection.value.state === "live" && connection.patch({ caughtUp: null }), NOTICE_MS);
      this.onResumed();
    }
    this.met = true;
  }

  take(frame) {
    const last = this.last.get(frame.orderId);
    if (last === undefined) this.onStranger(frame);
    else if (frame.seq === last + 1) {
      this.last.set(frame.orderId, TERMINAL.has(frame.status) ? Infinity : frame.seq);
      this.asked.delete(frame.orderId);
      if (connection.value.state === "resuming") this.missed += 1;
      this.onEvent(frame);
    } else if (frame.seq > last + 1) this.subscribe(frame.orderId);
  }
}

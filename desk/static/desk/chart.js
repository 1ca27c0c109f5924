// Orders per 5 s by outcome, and how long the confirmed ones took, over the last 15 minutes.
import { get, isResting } from "./api.js";
import { duration } from "./format.js";
import { html, useEffect, useRef, useRepeat, useState } from "./lib.js";

const EVERY_SECONDS = 5; // as long as a bar is wide
const MINUTES = 15;

export function Chart() {
  const box = useRef();
  const plot = useRef();
  const [activity, setActivity] = useState(null);
  useRepeat(async () => {
    if (isResting()) return;
    const found = await get(`/api/orders/activity?minutes=${MINUTES}`).catch(() => null);
    if (found) setActivity(found);
  }, EVERY_SECONDS);
  useEffect(() => {
    const draw = () => { // anew in the colours of another theme
      const shown = plot.current?.data ?? [[], [], [], [], [], []];
      plot.current?.destroy();
      plot.current = new uPlot(options(box.current), shown, box.current);
    };
    draw();
    const resized = new ResizeObserver(() => plot.current.setSize(sizeOf(box.current)));
    resized.observe(box.current);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const themed = new MutationObserver(draw);
    themed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    dark.addEventListener("change", draw);
    return () => {
      resized.disconnect();
      themed.disconnect();
      dark.removeEventListener("change", draw);
      plot.current.destroy();
    };
  }, []);
  useEffect(() => {
    if (activity) plot.current.setData(series(activity));
  }, [activity]);
  const text = activity ? summary(activity.results) : "Loading …";
  return html`
    <section class="chart card" aria-label="Activity">
      <h2>Last 15 minutes</h2>
      <p class="legend" aria-hidden="true">
        <span data-key="confirmed">confirmed</span><span data-key="failed">failed</span>
        <span data-key="other">cancelled, expired</span>
        <span data-key="p50">p50</span><span data-key="p95">p95</span>
      </p>
      <div ref=${box} class="plot" aria-hidden="true"></div>
      <p class="muted">${text}</p>
    </section>`;
}

function summary(buckets) {
  const sum = (name) => buckets.reduce((total, bucket) => total + bucket[name], 0);
  const [confirmed, failed, other] = [sum("confirmed"), sum("failed"), sum("cancelled") + sum("expired")];
  if (!confirmed && !failed && !other) return "No order has ended in the last 15 minutes.";
  const newest = buckets.findLast((bucket) => bucket.p50Ms !== null);
  const times = newest ? ` Newest 5 s: p50 ${duration(newest.p50Ms)}, p95 ${duration(newest.p95Ms)}.` : "";
  return `${confirmed} confirmed, ${failed} failed, ${other} cancelled or expired.${times}`;
}

/** Columns for uPlot: time, then bars stacked from the tallest to the lowest, then the times. */
function series({ from, to, bucketSeconds, results }) {
  const byTime = new Map(results.map((bucket) => [Date.parse(bucket.at) / 1000, bucket]));
  const first = Math.ceil(Date.parse(from) / 1000 / bucketSeconds) * bucketSeconds;
  const last = Date.parse(to) / 1000;
  const columns = [[], [], [], [], [], []];
  for (let at = first; at <= last; at += bucketSeconds) {
    const { confirmed = 0, failed = 0, cancelled = 0, expired = 0, p50Ms = null, p95Ms = null } = byTime.get(at) || {};
    const values = [at, confirmed + failed + cancelled + expired, confirmed + failed, confirmed, inSeconds(p50Ms), inSeconds(p95Ms)];
    values.forEach((value, n) => columns[n].push(value));
  }
  return columns;
}

const inSeconds = (ms) => (ms === null ? null : ms / 1000);

const sizeOf = (box) => ({ width: box.clientWidth, height: box.clientHeight });

function options(box) {
  const colour = (name) => {
    box.style.color = `var(${name})`; // resolved for the theme, as a canvas needs it
    return getComputedStyle(box).color;
  };
  const bars = (name) => ({ fill: colour(name), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.9, 12], gap: 0 }) });
  const line = (name, dash) => ({ scale: "s", stroke: colour(name), width: 2, dash, points: { size: 4, fill: colour(name), stroke: colour(name) } });
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  return {
    ...sizeOf(box), legend: { show: false }, cursor: { show: false }, padding: [8, 0, 0, 0],
    scales: { y: { range: (_, __, max) => [0, Math.max(4, Math.ceil(max * 1.1))] }, s: { range: (_, __, max) => [0, Math.max(1, max * 1.1 || 1)] } },
    axes: [
      { ...axis, grid: { show: false }, space: 70, values: (_, ticks) => ticks.map((at) => new Date(at * 1000).toTimeString().slice(0, 5)) },
      { ...axis, size: 34, space: 45, values: (_, ticks) => ticks.map((n) => (Number.isInteger(n) ? n : "")) },
      { ...axis, scale: "s", side: 1, size: 44, space: 45, grid: { show: false }, values: (_, ticks) => ticks.map((n) => `${n} s`) },
    ],
    series: [{}, bars("--other"), bars("--failed"), bars("--confirmed"), line("--p50"), line("--p95", [5, 4])],
  };
}

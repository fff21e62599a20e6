// Throughput, queue, batch size and latency, drawn from the text of /metrics while somebody looks.

import { el, svg } from "./dom.js";
import { read } from "./service.js";

const EVERY_MS = 2000;
const KEPT = 30; // points: one minute
const WIDTH = 240;
const HEIGHT = 56;

/** The samples of a metrics page: `{name, labels, value}`. */
export function parse(page) {
  const found = [];
  for (const line of page.split("\n")) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, name, value]) => [name, value]));
    found.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return found;
}

/** What the page says in all, over all models: counts since the start, and how much waits now. */
export function totals(samples) {
  const sum = (name, wanted = () => true) =>
    samples.reduce((total, entry) => total + (entry.name === name && wanted(entry.labels) ? entry.value : 0), 0);
  const buckets = new Map();
  for (const entry of samples) {
    if (entry.name === "hooper_request_seconds_bucket") {
      const limit = entry.labels.le === "+Inf" ? Infinity : Number(entry.labels.le);
      buckets.set(limit, (buckets.get(limit) ?? 0) + entry.value);
    }
  }
  return {
    requests: sum("hooper_requests_total", (labels) => labels.task !== ""),
    waiting: sum("hooper_waiting_rows"),
    rows: sum("hooper_batch_rows_sum"),
    batches: sum("hooper_batch_rows_count"),
    buckets: [...buckets].sort(([entry], [other]) => entry - other),
  };
}

/** What happened between two totals that lie `seconds` apart; null where nothing did. */
export function between(before, now, seconds) {
  const earlier = new Map(before.buckets);
  const counts = now.buckets.map(([limit, count]) => [limit, count - (earlier.get(limit) ?? 0)]);
  const batches = now.batches - before.batches;
  return {
    throughput: Math.max(0, now.requests - before.requests) / seconds,
    waiting: now.waiting,
    batch: batches > 0 ? (now.rows - before.rows) / batches : null,
    median: quantile(counts, 0.5),
    slowest: quantile(counts, 0.95),
  };
}

/** Of cumulative counts below ascending limits, as Prometheus computes it: linear within a bucket. Milliseconds. */
export function quantile(counts, part) {
  const total = counts.length ? counts[counts.length - 1][1] : 0;
  if (total <= 0) return null;
  let [low, below] = [0, 0];
  for (const [limit, count] of counts) {
    if (count >= part * total) {
      if (limit === Infinity) return low * 1000;
      const share = count === below ? 1 : (part * total - below) / (count - below);
      return (low + (limit - low) * share) * 1000;
    }
    [low, below] = [limit, count];
  }
  return low * 1000;
}

const CHARTS = [
  { title: "Requests answered", unit: "per second", values: (entry) => [entry.throughput], digits: 1 },
  { title: "Rows waiting", unit: "for an engine", values: (entry) => [entry.waiting], digits: 0 },
  { title: "Rows per batch", unit: "on average", values: (entry) => [entry.batch], digits: 1 },
  { title: "Latency", unit: "ms, median", more: "thin: 95th percentile", values: (entry) => [entry.median, entry.slowest], digits: 0 },
];

/** Fill `place` with the charts and keep them moving; `state` is told when the service does not answer. */
export function watch(place, state) {
  const charts = CHARTS.map((kind) => chart(kind));
  place.replaceChildren(...charts.map((entry) => entry.node));
  const points = [];
  let last = null;
  const hint = state.textContent;
  const look = async () => {
    if (document.hidden) return;
    try {
      const now = { at: performance.now(), ...totals(parse(await read("metrics"))) };
      if (last && now.requests >= last.requests) points.push(between(last, now, (now.at - last.at) / 1000));
      last = now;
      points.splice(0, points.length - KEPT);
      for (const entry of charts) entry.draw(points);
      state.textContent = hint;
    } catch (error) {
      last = null;
      state.textContent = `${error.message ?? "No metrics."} The view goes on when it answers again.`;
    }
  };
  const turn = async () => {
    await look(); // never two at once, however slow the service is
    setTimeout(turn, EVERY_MS);
  };
  document.addEventListener("visibilitychange", () => {
    last = null; // what happened while nobody looked belongs to no single step
  });
  turn();
}

function chart({ title, unit, more = "", values, digits }) {
  const number = el("span", { class: "number" }, "–");
  const top = el("span", { class: "top-value" });
  const lines = ["thin", "thick"].map((kind) => svg("path", { class: kind, fill: "none" }));
  const area = svg("path", { class: "area" });
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, area, ...lines);
  const node = el("figure", { class: "chart" }, el("figcaption", {}, title), el("p", { class: "now" }, number, " ", el("span", { class: "hint" }, unit)), drawing, top);
  const draw = (points) => {
    const series = points.map(values);
    const known = series.flat().filter((value) => value !== null);
    const highest = Math.max(...known, 1);
    const latest = series.length ? series[series.length - 1][0] : null;
    number.textContent = latest === null ? "–" : latest.toFixed(digits);
    top.textContent = known.length ? [`highest ${Math.max(...known).toFixed(digits)}`, more].filter(Boolean).join("; ") : "";
    const first = series.map((entry) => entry[0]);
    lines[1].setAttribute("d", path(first, highest));
    lines[0].setAttribute("d", path(series.map((entry) => entry[1] ?? null), highest));
    area.setAttribute("d", closed(first, highest));
    drawing.setAttribute("aria-label", `${title}: ${number.textContent} ${unit}; ${top.textContent || "nothing yet"}`);
  };
  draw([]);
  return { node, draw };
}

function x(index, count) {
  return WIDTH - (count - 1 - index) * (WIDTH / (KEPT - 1));
}

function y(value, highest) {
  return HEIGHT - 3 - (value / highest) * (HEIGHT - 8);
}

/** A line through the values, broken where one is null; a lone value is a short dash. */
function path(values, highest) {
  let line = "";
  values.forEach((value, index) => {
    if (value === null) return;
    const isFirst = index === 0 || values[index - 1] === null;
    const [here, height] = [x(index, values.length).toFixed(1), y(value, highest).toFixed(1)];
    line += isFirst ? `M${here - 2} ${height}H${here}` : `L${here} ${height}`;
  });
  return line;
}

function closed(values, highest) {
  const known = values.map((value) => value ?? 0);
  if (known.length < 2) return "";
  return `${path(known, highest)}V${HEIGHT}H${x(0, known.length).toFixed(1)}Z`;
}

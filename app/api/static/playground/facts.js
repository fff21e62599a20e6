// What stands beside every answer: where the time went, who answered, and how much of the text was read.

import { el } from "./dom.js";

/** Of a text that came as it was written: the headers of such an answer are sent before any time is known. */
function writtenFacts(model, { written, roundTripMs, body }) {
  const speed = written.perS === null ? "not told" : `${written.perS.toFixed(written.perS < 10 ? 1 : 0)} tokens/s`;
  return el(
    "div",
    { class: "facts" },
    el(
      "dl",
      {},
      ...fact("First piece after", milliseconds(written.firstMs ?? roundTripMs)),
      ...fact("All of it after", milliseconds(roundTripMs)),
      ...fact("Speed", speed),
      ...fact("Read", `${body.usage.num_tokens.toLocaleString("en")} tokens`),
      ...fact("Model", `${body.model.name}/${body.model.version}`),
      ...fact("Runs on", `${model.execution_providers[0].replace("ExecutionProvider", "")}, ${model.precision}`),
    ),
  );
}

/** Timings, batch, tokens, model and device. `model` is one of /v1/models, `reply` what `ask` or `stream` returned. */
export function facts(model, reply) {
  if (reply.written) return writtenFacts(model, reply);
  const { timing, roundTripMs, body } = reply;
  const rest = Math.max(0, roundTripMs - (timing.tokenize ?? 0) - (timing.queue ?? 0) - (timing.inference ?? 0));
  const parts = [
    ["Tokenize", timing.tokenize, "tokenize"],
    ["Queue", timing.queue, "queue"],
    ["Inference", timing.inference, "inference"],
    ["Network and browser", rest, "rest"],
  ];
  const version = `${body.model.name}/${body.model.version}`;
  return el(
    "div",
    { class: "facts" },
    timeline(parts),
    el(
      "dl",
      {},
      ...parts.flatMap(([name, ms, kind]) => fact(name, milliseconds(ms), kind)),
      ...fact("Batch", timing.batch ?? "not told"),
      ...fact("Read", `${body.usage.num_tokens.toLocaleString("en")} tokens`),
      ...fact("Model", version),
      ...fact("Runs on", `${model.execution_providers[0].replace("ExecutionProvider", "")}, ${model.precision}`),
    ),
  );
}

function fact(name, value, kind = "") {
  const key = kind ? [el("span", { class: `dot ${kind}`, "aria-hidden": "true" })] : [];
  return [el("div", {}, el("dt", {}, ...key, name), el("dd", {}, value))];
}

function timeline(parts) {
  const total = parts.reduce((sum, [, ms]) => sum + (ms ?? 0), 0) || 1;
  const spans = parts.map(([, ms, kind]) => {
    const span = el("span", { class: kind });
    span.style.width = `${((ms ?? 0) / total) * 100}%`;
    return span;
  });
  return el("div", { class: "timeline", "aria-hidden": "true" }, ...spans);
}

function milliseconds(ms) {
  return ms === undefined ? "not told" : `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

/** Says that a text was cut, or read in windows; null where it was short enough. `readAll` asks again for all of it. */
export function lengthNote(model, result, wholeSentences, readAll) {
  const limit = model.limits.max_tokens.toLocaleString("en");
  const read = result.num_tokens.toLocaleString("en");
  if (result.truncated) {
    const again = readAll && el("button", { type: "button", class: "quiet", onclick: readAll }, "Read all of it, in windows");
    const words = `Only the beginning was read: ${read} tokens, and the model reads ${limit} at once. The rest was cut off.`;
    return el("div", { class: "note cut" }, el("p", {}, el("strong", {}, "Truncated. "), words), again || null);
  }
  if (result.num_tokens <= model.limits.max_tokens) return null;
  const how = wholeSentences ? "in windows of whole sentences" : "in overlapping windows";
  const windows = Math.ceil(result.num_tokens / model.limits.max_tokens);
  const words = `The model reads ${limit} tokens at once, so this was read ${how}: at least ${windows}, ${read} tokens in all.`;
  return el("div", { class: "note" }, el("p", {}, el("strong", {}, "Processed in windows. "), words));
}

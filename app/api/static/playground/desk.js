// A desk is one model's form and the place where its answers appear. It is kept while other models are looked at.

import { copyButtons } from "./copy.js";
import { el, field, percent, select } from "./dom.js";
import { why } from "./explain.js";
import { facts, lengthNote } from "./facts.js";
import { ask, nameOf, stream, Trouble, troubleOfItem } from "./service.js";
import { tablePanel } from "./table.js";
import { speedOf } from "./writing.js";

const CHIP = 32; // characters of an example that name it
const METRICS = { macro_f1: "macro F1", exact_match: "EM", f1: "F1", rmse: "RMSE", mae: "MAE", rouge1: "ROUGE-1", rouge2: "ROUGE-2", rougeLsum: "ROUGE-Lsum" };

/** `page` has `say(sentence)` for screen readers, and `needKey()` that shows where a key is entered, and `models`. */
export function desk(model, task, page) {
  const place = el("div", { class: "answer" }, el("p", { class: "hint empty" }, "No prediction yet."));
  const button = el("button", { class: "primary" }, task.verb);
  let running = null;

  const again = () => {
    if (place.querySelector(".facts")) submit();
  };
  const form = task.form(again, model);
  const routeFor = (asked) => task.routeFor?.(asked) ?? task.route;
  const other = select([["", "nothing"]], "");
  const compare = field("Compare with", other, "Another model or version for the same task is asked the same.");

  async function submit() {
    const isFirst = !place.querySelector(".facts");
    running?.abort();
    const mine = (running = new AbortController());
    const asked = { model: nameOf(model), ...form.read() };
    place.setAttribute("aria-busy", "true");
    button.classList.add("busy");
    try {
      const second = page.models.find((entry) => idOf(entry) === other.value);
      const isStreamed = !second && task.streams?.(asked);
      const asking = [model, second].filter(Boolean).map((entry) => {
        const body = { ...asked, model: nameOf(entry, Boolean(second)) };
        return isStreamed ? stream(routeFor(asked), body, mine.signal, live(mine, isFirst)) : ask(routeFor(asked), body, mine.signal);
      });
      const [reply, otherReply] = await Promise.all(asking);
      const [result, otherResult] = [reply, otherReply].map((entry) => entry && (task.answer?.(entry.body) ?? entry.body.results[0]));
      for (const entry of [result, otherResult]) if (entry?.error) throw troubleOfItem(entry.error);
      place.replaceChildren(...shown(reply, result, asked, second && { model: second, result: otherResult }));
      page.say(`Answer: ${task.say(result, model)}${second ? `; ${idOf(second)}: ${task.say(otherResult, second)}` : ""}`);
    } catch (error) {
      if (error.name === "AbortError") return; // a newer question has taken its place
      const trouble = error instanceof Trouble ? error : new Trouble("The answer could not be read.", String(error));
      place.replaceChildren(troubled(trouble));
      if (trouble.status === 401) page.needKey();
    }
    if (isFirst) bringIntoView(place.previousElementSibling);
    place.removeAttribute("aria-busy");
    button.classList.remove("busy");
  }

  /** Shows a text while it is written; a button stops that, and what there is stays. */
  function live(mine, isFirst) {
    const text = el("p", { class: "best prose written", dir: "auto" });
    const count = el("span", { class: "hint" }, "Reading…");
    const stop = () => {
      mine.abort();
      stopping.remove();
      place.removeAttribute("aria-busy");
      button.classList.remove("busy");
      page.say("Stopped.");
    };
    const stopping = el("button", { type: "button", class: "quiet", onclick: stop }, "Stop");
    place.replaceChildren(text, el("div", { class: "row" }, stopping, count));
    if (isFirst) bringIntoView(place.previousElementSibling);
    return (piece, written) => {
      text.append(piece);
      count.textContent = speedOf(written);
    };
  }

  function shown(reply, result, asked, compared) {
    const isOwn = routeFor(asked) === task.route; // the explained answers
    const explained = task.explained === null || !isOwn ? null : why(model, task.explained?.(asked, result) ?? asked.inputs, task.score ?? percent, page.say, page.needKey);
    const copied = copyButtons(routeFor(asked), asked, page.say);
    const readAll = asked.truncation === "window" ? null : () => {
      form.truncation.value = "window";
      submit();
    };
    return [
      lengthNote(model, result, task.wholeSentences, readAll),
      compared ? sideBySide(model, result, compared, task, asked) : task.show(result, asked, model),
      el("div", { class: "row actions" }, explained?.button, ...copied.buttons),
      copied.shown,
      explained?.place,
      facts(model, reply),
    ].filter(Boolean);
  }

  function troubled(trouble) {
    const retry = el("button", { type: "button", class: "quiet", onclick: submit }, "Try again");
    const wait = el("span", { class: "hint" });
    if (trouble.waitS > 0) countDown(trouble.waitS, retry, wait);
    const known = [413, 422].includes(trouble.status); // the same request would fail in the same way
    return el(
      "div",
      { class: "note trouble", role: "alert" },
      el("p", {}, el("strong", {}, trouble.message), " ", trouble.detail),
      known ? null : el("div", { class: "row" }, retry, wait),
    );
  }

  const examples = examplesOf(model, task).map((example) => {
    const fill = () => {
      form.fill(example.item);
      submit();
    };
    return el("button", { type: "button", class: "chip", onclick: fill, dir: "auto", title: example.title }, example.name);
  });
  if (model.examples.length) form.fill(model.examples[0]);
  const language = model.task_options.language;
  if (language) for (const node of form.main) for (const text of node?.querySelectorAll("textarea, input[type=text]") ?? []) text.lang = language;

  const submitted = (event) => {
    event.preventDefault();
    submit();
  };
  const hurried = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.requestSubmit();
  };
  const node = el(
    "div",
    { class: "columns" },
    el(
      "section",
      { class: "card", "aria-labelledby": "ask-title" },
      el("h2", { id: "ask-title" }, "Your text"),
      model.description ? el("p", { class: "hint" }, model.description) : null,
      figures(model),
      examples.length ? el("div", { class: "chips", role: "group", "aria-label": "Examples" }, ...examples) : null,
      el(
        "form",
        { onsubmit: submitted, onkeydown: hurried },
        ...form.main.filter(Boolean),
        el("details", {}, el("summary", {}, "Options"), ...form.options.filter(Boolean)),
        compare,
        el("div", { class: "row" }, button, el("span", { class: "hint" }, "or Ctrl + Enter")),
      ),
      task.takesFiles === false ? null : tablePanel(model, task, form, page),
    ),
    el("section", { class: "card", "aria-labelledby": "answer-title" }, el("h2", { id: "answer-title" }, "Answer"), place),
  );
  /** What can be compared may have been loaded since, or be gone. */
  node.refresh = () => {
    const others = page.models.filter((entry) => entry.task === model.task && idOf(entry) !== idOf(model));
    others.sort((entry, next) => (next.name === model.name) - (entry.name === model.name)); // other versions of it first
    const chosen = other.value;
    other.replaceChildren(...["", ...others.map(idOf)].map((id) => el("option", { value: id }, id || "nothing")));
    other.value = others.some((entry) => idOf(entry) === chosen) ? chosen : "";
    compare.hidden = others.length === 0;
  };
  node.refresh();
  return node;
}

function idOf(model) {
  return `${model.name}/${model.version}`;
}

/** The model's own examples, named by how they begin; a long one besides, which is read in windows. */
function examplesOf(model, { fields }) {
  const required = Object.keys(fields).filter((name) => fields[name].required);
  const named = model.examples.map((item) => ({ item, title: item[required[0]], name: clipped(item[required[0]] ?? "") }));
  const last = required.at(-1);
  const text = model.examples.map((item) => item[last]).join(" ");
  if (!text) return named;
  const long = { ...model.examples[0], [last]: `${text} `.repeat(Math.ceil((model.limits.max_tokens * 6) / text.length)).trim() };
  return [...named, { item: long, title: "A text longer than the model reads at once", name: "Too long for the model" }];
}

function clipped(text) {
  const points = Array.from(text.trim());
  return points.length > CHIP ? `${points.slice(0, CHIP).join("").replace(/\s+\S*$/, "")}…` : points.join("");
}

/** How good it is by its card: the headline figures. */
function figures(model) {
  const several = model.task_options.problem_type === "multi_label_classification";
  const name = (metric) => (several && metric === "accuracy" ? "subset accuracy (exact match)" : (METRICS[metric] ?? metric.replaceAll("_", " ")));
  const entries = Object.entries(model.evaluation).filter(([metric, value]) => metric !== "rows" && typeof value === "number");
  if (!entries.length) return null;
  const words = entries.slice(0, 3).map(([metric, value]) => `${name(metric)} ${value.toLocaleString("en", { maximumFractionDigits: 3 })}`);
  const rows = model.evaluation.rows ? ` on ${model.evaluation.rows.toLocaleString("en")} held-out rows` : "";
  return el("p", { class: "hint" }, `Evaluation: ${words.join(", ")}${rows}.`);
}

/** Two versions' answers to the same, and what differs. */
function sideBySide(model, result, compared, task, asked) {
  const decisions = task.decision ? [result, compared.result].map((entry) => task.decision(entry)) : [];
  const isSame = decisions[0] === decisions[1];
  const words = isSame ? "Same answer." : "The answers differ.";
  const changes = task.differences?.(result, compared.result) ?? [];
  const column = (entry, answer) => el("section", { class: "version", "aria-label": idOf(entry) }, el("h3", {}, idOf(entry)), task.show(answer, asked, entry));
  return el(
    "div",
    {},
    task.decision ? el("p", { class: isSame ? "note" : "note cut" }, el("strong", {}, words)) : null,
    changes.length ? el("div", {}, el("h3", {}, `From ${idOf(model)} to ${idOf(compared.model)}`), el("ul", { class: "changes" }, ...changes)) : null,
    el("div", { class: isSame ? "versions" : "versions differ" }, column(model, result), column(compared.model, compared.result)),
  );
}

/** On a phone the answer lies below the form: show where it begins, unless that can be seen already. */
function bringIntoView(heading) {
  const { top } = heading.getBoundingClientRect();
  if (top > window.innerHeight - 120) heading.scrollIntoView({ block: "start" });
}

/** Keep a button switched off for so many seconds, and say how many are left. */
function countDown(seconds, button, words) {
  button.disabled = seconds > 0;
  words.textContent = seconds > 0 ? `in ${seconds} ${seconds === 1 ? "second" : "seconds"}` : "";
  if (seconds > 0) setTimeout(() => countDown(seconds - 1, button, words), 1000);
}

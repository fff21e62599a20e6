// Text classification: a bar for each label; where a text may have several, which of them are selected.

import { bar, difference, el, field, labelsField, percent, slider, textField, truncationField } from "../playground/dom.js";

const SHOWN = 10; // more labels than these wait behind a button
const SEVERAL = "multi_label_classification";
const INFERENCE = /^entail/i; // a label of models that say whether one text follows from another

export default {
  route: "v1/classify",
  verb: "Classify",
  words: "classification",

  routeFor: (asked) => (asked.labels ? "v1/zero-shot" : "v1/classify"),

  form(again, model) {
    const text = textField({ rows: 7, required: true });
    const pair = textField({ rows: 4 });
    const truncation = truncationField("text");
    const labels = (model.labels ?? []).some((label) => INFERENCE.test(label)) ? labelsField("With commas between; then the second text is not read.") : null;
    const isPair = "text_pair" in model.columns || model.examples.some((example) => example.text_pair);
    return {
      main: [field(isPair ? "First text" : "Text", text), isPair ? field("Second text", pair) : null, labels?.node ?? null],
      options: [truncation.node],
      truncation: truncation.select,
      read: () => {
        const own = labels?.read() ?? [];
        const inputs = isPair && pair.value && !own.length ? { text: text.value, text_pair: pair.value } : text.value;
        return { inputs, ...(own.length ? { labels: own } : {}), truncation: truncation.select.value };
      },
      fill: (example) => {
        text.value = example.text;
        pair.value = example.text_pair ?? "";
      },
    };
  },

  show(result, asked, model) {
    const several = model.task_options.problem_type === SEVERAL;
    const rows = result.labels.map((entry) => row(entry));
    const list = el("ol", { class: "labels" }, ...rows.map((entry) => entry.node));
    const more = rows.length > SHOWN ? moreButton(rows.slice(SHOWN)) : null;
    return el("div", {}, list, more, several ? thresholds(rows, model.task_options.thresholds) : null);
  },

  say: (result) => {
    if (result.labels[0].selected === undefined) return `${result.labels[0].label}, ${percent(result.labels[0].score)}`;
    return selectedLabels(result).join(", ") || "no label selected";
  },

  decision: (result) => (result.labels[0].selected === undefined ? result.labels[0].label : selectedLabels(result).sort().join(", ")),

  differences(result, other) {
    const scores = new Map(other.labels.map(({ label, score }) => [label, score]));
    const changed = result.labels.filter(({ label, score }) => scores.has(label) && Math.abs(scores.get(label) - score) >= 0.005);
    return changed.slice(0, SHOWN).map(({ label, score }) => difference(label, percent(score), percent(scores.get(label))));
  },
};

function selectedLabels(result) {
  return result.labels.filter((entry) => entry.selected).map((entry) => entry.label);
}

function row({ label, score, selected }) {
  const line = el("span", { class: "line", hidden: true });
  const verdict = el("span", { class: "verdict" });
  const name = el("span", { class: "label", dir: "auto" }, label, " ", verdict);
  const node = el("li", {}, name, el("span", { class: "score" }, percent(score)), bar(score, line));
  const apply = (isSelected, threshold) => {
    node.classList.toggle("below", !isSelected);
    verdict.textContent = isSelected ? "✓ selected" : "not selected";
    line.hidden = threshold === undefined;
    line.style.left = `${threshold * 100}%`;
    return isSelected;
  };
  return { label, score, selected, node, apply };
}

/** The model's own thresholds, until the slider is moved. */
function thresholds(rows, own = {}) {
  const count = el("p", { class: "hint", "aria-live": "polite" });
  const show = (threshold) => {
    const isSelected = (entry) => (threshold === undefined ? entry.selected : entry.score >= threshold);
    const selected = rows.filter((entry) => entry.apply(isSelected(entry), threshold ?? own[entry.label] ?? 0.5)).length;
    const by = threshold === undefined ? (Object.keys(own).length ? "by the model's own thresholds" : "from 50 % on") : "by your threshold";
    count.textContent = `${selected} of ${rows.length} labels selected, ${by}.`;
    reset.hidden = threshold === undefined;
  };
  const control = slider("Threshold for all labels", { min: 0, max: 1, step: 0.01, value: 0.5 }, percent, show);
  const reset = el("button", { type: "button", class: "quiet", hidden: true, onclick: () => show(undefined) }, "The model's own thresholds");
  show(undefined);
  return el("div", { class: "control" }, control.node, el("div", { class: "row" }, count, reset));
}

function moreButton(rows) {
  for (const entry of rows) entry.node.hidden = true;
  const show = (event) => {
    for (const entry of rows) entry.node.hidden = false;
    event.target.remove();
  };
  return el("button", { type: "button", class: "quiet", onclick: show }, `Show ${rows.length} more labels`);
}

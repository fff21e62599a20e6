// Text classification: a bar for each label, and a threshold that says which of them count.

import { bar, el, field, percent, select, slider } from "../playground/dom.js";
import { PLOT } from "../playground/examples.js";

const SHOWN = 10; // more labels than these wait behind a button

const LONG_REVIEW =
  Array.from({ length: 9 }, () => PLOT.join(" ")).join(" ") +
  " And that is all of it. It was a terrible, boring, ugly film, and I hated every minute.";

const EXAMPLES = [
  { name: "Positive example", text: "A warm, funny film that I would happily watch again." },
  { name: "Negative example", text: "Boring, predictable and far too long; I walked out before the end." },
  { name: "Mixed example", text: "The acting is superb, but the story goes nowhere and the ending insults its audience." },
  { name: "Too long for the model", text: LONG_REVIEW },
];

export default {
  examples: EXAMPLES,
  route: "v1/classify",
  verb: "Classify",
  words: "classification",

  form() {
    const text = el("textarea", { rows: 7, required: true, spellcheck: false });
    const pair = el("textarea", { rows: 3, spellcheck: false });
    const truncation = select(
      [
        ["window", "Read all of it, in windows"],
        ["truncate", "Cut it"],
        ["error", "Refuse it"],
      ],
      "window",
    );
    return {
      main: [field("Text", text)],
      options: [
        field("Where the text is too long for the model", truncation),
        field("Second text", pair, "Only for models that were trained on pairs."),
      ],
      truncation,
      read: () => ({
        inputs: pair.value ? { text: text.value, text_pair: pair.value } : text.value,
        truncation: truncation.value,
      }),
      fill: (example) => {
        text.value = example.text;
        pair.value = "";
      },
    };
  },

  show(result) {
    const rows = result.labels.map((entry) => row(entry));
    const list = el("ol", { class: "labels" }, ...rows.map((entry) => entry.node));
    const kept = el("p", { class: "hint" });
    const apply = (threshold) => {
      const count = rows.filter((entry) => entry.apply(threshold)).length;
      kept.textContent = `${count} of ${rows.length} labels reach the threshold.`;
    };
    const threshold = slider("Threshold", { min: 0, max: 1, step: 0.01, value: 0.5 }, percent, apply);
    apply(threshold.get());
    const more = rows.length > SHOWN ? moreButton(rows.slice(SHOWN)) : null;
    return el("div", {}, list, more, el("div", { class: "control" }, threshold.node, kept));
  },

  say: (result) => `${result.labels[0].label}, ${percent(result.labels[0].score)}`,
};

function row({ label, score }) {
  const line = el("span", { class: "line" });
  const verdict = el("span", { class: "verdict" });
  const node = el(
    "li",
    {},
    el("span", { class: "label" }, label, " ", verdict),
    el("span", { class: "score" }, percent(score)),
    bar(score, line),
  );
  const apply = (threshold) => {
    const counts = score >= threshold;
    node.classList.toggle("below", !counts);
    verdict.textContent = counts ? "✓" : "below the threshold";
    line.style.left = `${threshold * 100}%`;
    return counts;
  };
  return { node, apply };
}

function moreButton(rows) {
  for (const entry of rows) entry.node.hidden = true;
  const show = (event) => {
    for (const entry of rows) entry.node.hidden = false;
    event.target.remove();
  };
  return el("button", { type: "button", class: "quiet", onclick: show }, `Show ${rows.length} more labels`);
}

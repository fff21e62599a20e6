// Text regression: the number, and where it lies in the range of the training data.

import { bar, difference, el } from "../playground/dom.js";
import classification from "./text-classification.js";

export default {
  ...classification,
  verb: "Predict",
  words: "regression",

  show(result, asked, model) {
    const value = result.labels[0].score;
    const limits = range(model.task_options);
    if (!limits) return el("div", {}, el("p", { class: "best" }, amount(value)));
    const [low, high] = limits;
    const named = model.task_options.value_range ? "Range of the training data" : "Usual range (mean ± 2 standard deviations)";
    return el(
      "div",
      {},
      el("p", { class: "best" }, amount(value)),
      bar((value - low) / (high - low)),
      el("p", { class: "scale", "aria-hidden": "true" }, el("span", {}, amount(low)), el("span", {}, amount(high))),
      el("p", { class: "hint" }, `${named}: ${amount(low)} to ${amount(high)}.${value < low || value > high ? " The answer lies outside." : ""}`),
    );
  },

  say: (result) => amount(result.labels[0].score),
  decision: null, // numbers differ a little between any two versions
  differences: (result, other) => [difference("Value", amount(result.labels[0].score), amount(other.labels[0].score))],
  score: amount,
};

/** Of the numbers that are usual, where the model knows any. */
function range({ value_range: range, offset = 0, scale }) {
  return range ?? (scale && [offset - 2 * scale, offset + 2 * scale]);
}

/** A number to four significant digits. */
function amount(value) {
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 6 });
}

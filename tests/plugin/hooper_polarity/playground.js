// Text polarity: a word and a bar.

import { bar, el, field, textField, truncationField } from "../playground/dom.js";

export default {
  route: "v1/measure",
  verb: "Measure",
  words: "polarity",

  form() {
    const text = textField({ rows: 7, required: true });
    const truncation = truncationField("text");
    return {
      main: [field("Text", text)],
      options: [truncation.node],
      truncation: truncation.select,
      read: () => ({ inputs: text.value, truncation: truncation.select.value }),
      fill: (example) => {
        text.value = example.text;
      },
    };
  },

  show: ({ polarity }) => el("div", {}, el("p", {}, described(polarity)), bar((1 + polarity) / 2)),

  say: ({ polarity }) => described(polarity),
};

function described(polarity) {
  return `${polarity > 0 ? "Positive" : "Negative"}, ${polarity.toFixed(2)}`;
}

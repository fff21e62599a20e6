// Text polarity: a word and a bar.

import { bar, el, field, select } from "../playground/dom.js";

export default {
  examples: [
    { name: "Positive example", text: "A warm, funny film that I would happily watch again." },
    { name: "Negative example", text: "Boring, predictable and far too long." },
  ],
  route: "v1/measure",
  verb: "Measure",
  words: "polarity",

  form() {
    const text = el("textarea", { rows: 7, required: true, spellcheck: false });
    const choices = [["window", "Read all of it, in windows"], ["truncate", "Cut it"], ["error", "Refuse it"]];
    const truncation = select(choices, "window");
    return {
      main: [field("Text", text)],
      options: [field("Where the text is too long for the model", truncation)],
      truncation,
      read: () => ({ inputs: text.value, truncation: truncation.value }),
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

// Token classification: the entities lit up in their text, each with its label.

import { el, field, percent, select } from "../playground/dom.js";
import { pieces } from "../playground/text.js";
import { LIBRARY, PLOT } from "../playground/examples.js";

const EXAMPLES = [
  { name: "A sentence", text: "Angela Merkel visited the Siemens works in Berlin on Tuesday." },
  { name: "Sports", text: "Werder Bremen beat Real Madrid 2-1 in Spain, and Claudio Pizarro scored twice." },
  { name: "A long text", text: [...PLOT, LIBRARY].join("\n\n") },
];

export default {
  examples: EXAMPLES,
  route: "v1/tag",
  verb: "Find entities",
  words: "token classification",

  form() {
    const text = el("textarea", { rows: 10, required: true, spellcheck: false });
    const aggregation = select(
      [
        ["first", "Words, by their first token"],
        ["average", "Words, by the mean of their tokens"],
        ["max", "Words, by their surest token"],
        ["simple", "Tokens, joined"],
        ["none", "Single tokens"],
      ],
      "first",
    );
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
      options: [field("Entities are made of", aggregation), field("Where the text is too long for the model", truncation)],
      truncation,
      read: () => ({ inputs: text.value, aggregation: aggregation.value, truncation: truncation.value }),
      fill: (example) => {
        text.value = example.text;
      },
    };
  },

  show(result, asked) {
    const marked = pieces(asked.inputs, result.entities).map((piece) =>
      piece.span
        ? el("mark", { title: `${piece.span.label}, ${percent(piece.span.score)}` }, piece.text, " ", el("small", { class: "label" }, piece.span.label))
        : piece.text,
    );
    const count = result.entities.length === 1 ? "1 entity." : `${result.entities.length} entities.`;
    return el(
      "div",
      {},
      el("p", { class: "document", tabIndex: 0, role: "group", "aria-label": "The text, with its entities marked" }, ...marked),
      el("p", { class: "hint" }, result.entities.length ? count : "No entity was found."),
    );
  },

  say: (result) => (result.entities.length ? result.entities.map((entity) => `${entity.text}: ${entity.label}`).join(", ") : "no entity was found"),
};

// Token classification: the entities lit up in their text, each with its label.

import { el, field, percent, select, textField, truncationField } from "../playground/dom.js";
import { pieces } from "../playground/text.js";

export default {
  route: "v1/tag",
  verb: "Find entities",
  words: "token classification",

  form() {
    const text = textField({ rows: 10, required: true });
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
    const truncation = truncationField("text");
    return {
      main: [field("Text", text)],
      options: [field("Entities are made of", aggregation), truncation.node],
      truncation: truncation.select,
      read: () => ({ inputs: text.value, aggregation: aggregation.value, truncation: truncation.select.value }),
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
      el("p", { class: "document", dir: "auto", tabIndex: 0, role: "group", "aria-label": "The text, with its entities marked" }, ...marked),
      el("p", { class: "hint" }, result.entities.length ? count : "No entity was found."),
    );
  },

  say: (result) => (result.entities.length ? result.entities.map((entity) => `${entity.text}: ${entity.label}`).join(", ") : "no entity was found"),

  decision: (result) => result.entities.map((entity) => `${entity.text}: ${entity.label}`).join(", "),
};

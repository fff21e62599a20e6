// Extractive summaries: the chosen sentences lit up in the document, and a slider for how many.

import { el, field, percent, slider, textField, truncationField } from "../playground/dom.js";
import { pieces } from "../playground/text.js";

const SETTLED_MS = 250; // a slider moves through many values; the one it rests on is asked for

export default {
  route: "v1/summarize",
  verb: "Summarize",
  words: "summarization",
  wholeSentences: true,

  form(again) {
    const text = textField({ rows: 13, required: true });
    const truncation = truncationField("document");
    let timer = 0;
    const count = slider("Sentences to keep", { min: 1, max: 10, step: 1, value: 3 }, String, () => {
      clearTimeout(timer);
      timer = setTimeout(again, SETTLED_MS);
    });
    return {
      main: [field("Document", text), count.node],
      options: [truncation.node],
      truncation: truncation.select,
      read: () => ({
        inputs: text.value,
        max_sentences: count.get(),
        min_sentences: count.get(), // the slider says exactly how many
        truncation: truncation.select.value,
      }),
      fill: (example) => {
        text.value = example.text;
      },
    };
  },

  show(result, asked) {
    const marked = pieces(asked.inputs, result.sentences).map((piece) =>
      piece.span ? el("mark", { title: `Score ${percent(piece.span.score)}` }, piece.text) : piece.text,
    );
    return el(
      "div",
      {},
      el("p", { class: "best prose", dir: "auto" }, result.summary),
      el("p", { class: "hint" }, `${result.sentences.length} of its sentences, word for word. In the document:`),
      el("p", { class: "document", dir: "auto", tabIndex: 0, role: "group", "aria-label": "The document, with the chosen sentences marked" }, ...marked),
    );
  },

  say: (result) => `${result.sentences.length} sentences chosen`,

  decision: (result) => result.summary,
};

// Extractive summaries: the chosen sentences lit up in the document, and a slider for how many.

import { el, field, percent, select, slider } from "../playground/dom.js";
import { pieces } from "../playground/text.js";
import { LIBRARY, PLOT } from "../playground/examples.js";

const SETTLED_MS = 250; // a slider moves through many values; the one it rests on is asked for

const HALL =
  "The city council voted on Tuesday to close the old market hall. Engineers had warned for years that its roof could fall." +
  " About forty traders will move to a tent on the station square by March. It rained on the day of the vote. Some of them have" +
  " sold fish there for three generations. The mayor wore a blue coat. The council expects the repair to cost four million euros" +
  " and to take two years. A group of architects wants to keep the iron columns, which were cast in 1884. Nobody spoke for a" +
  " while after the vote.";

const REPAIR =
  "Volunteers in the valley have repaired more than nine hundred household appliances since January, and kept about four tonnes" +
  " of metal and plastic out of the landfill. The workshop opens twice a week in a former school. Most visitors bring toasters," +
  " lamps and radios. Peter Lang, a retired electrician, teaches others how to find a broken fuse. Coffee is free. The council" +
  " will pay the rent for another three years, it decided on Monday. Similar workshops are planned in two neighbouring towns. The" +
  " weather on opening day was fine.";

const EXAMPLES = [
  { name: "Market hall", text: HALL },
  { name: "Repair workshop", text: REPAIR },
  { name: "A long document", text: [HALL, REPAIR, LIBRARY, ...PLOT].join("\n\n") },
];

export default {
  examples: EXAMPLES,
  route: "v1/summarize",
  verb: "Summarize",
  words: "summarization",
  wholeSentences: true,

  form(again) {
    const text = el("textarea", { rows: 13, required: true, spellcheck: false });
    const truncation = select(
      [
        ["window", "Read all of it, in windows"],
        ["truncate", "Cut it"],
        ["error", "Refuse it"],
      ],
      "window",
    );
    let timer = 0;
    const count = slider("Sentences to keep", { min: 1, max: 10, step: 1, value: 3 }, String, () => {
      clearTimeout(timer);
      timer = setTimeout(again, SETTLED_MS);
    });
    return {
      main: [field("Document", text), count.node],
      options: [field("Where the document is too long for the model", truncation)],
      truncation,
      read: () => ({
        inputs: text.value,
        max_sentences: count.get(),
        min_sentences: count.get(), // the slider says exactly how many
        truncation: truncation.value,
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
      el("p", { class: "best prose" }, result.summary),
      el("p", { class: "hint" }, `${result.sentences.length} of its sentences, word for word. In the document:`),
      el("p", { class: "document", tabIndex: 0, role: "group", "aria-label": "The document, with the chosen sentences marked" }, ...marked),
    );
  },

  say: (result) => `${result.sentences.length} sentences chosen`,
};

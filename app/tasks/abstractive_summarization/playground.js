// Abstractive summaries: a text of the model's own, as it is written.

import { isStreamed, writingForm, written } from "../playground/writing.js";

const CHOICES = [
  ["window", "Sum up each piece of it"],
  ["truncate", "Cut it"],
  ["error", "Refuse it"],
];

export default {
  route: "v1/summarize",
  verb: "Summarize",
  words: "summaries in its own words",
  wholeSentences: true,
  explained: null,
  streams: isStreamed,
  form: () => writingForm({ label: "Document", rows: 13, what: "document", choices: CHOICES }),
  show: (result) => written(result.summary, result),
  say: (result) => result.summary,
  decision: (result) => result.summary,
};

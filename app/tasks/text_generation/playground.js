// Text generation: what the model writes behind a text, as it is written.

import { isStreamed, writingForm, written } from "../playground/writing.js";

const CHOICES = [
  ["error", "Refuse it"],
  ["truncate", "Cut its beginning"],
];

export default {
  route: "v1/generate",
  verb: "Continue",
  words: "text generation",
  explained: null,
  streams: isStreamed,
  form: () => writingForm({ label: "Text", rows: 8, what: "text", choices: CHOICES }),
  show: (result) => written(result.text, result),
  say: (result) => result.text,
  decision: (result) => result.text,
};

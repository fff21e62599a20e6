// Text to text: whatever the model writes, as it is written.

import { isStreamed, writingForm, written } from "../playground/writing.js";

const CHOICES = [
  ["error", "Refuse it"],
  ["truncate", "Cut it"],
];

export default {
  route: "v1/generate",
  verb: "Write",
  words: "text to text",
  explained: null,
  streams: isStreamed,
  form: () => writingForm({ label: "Text", rows: 8, what: "text", choices: CHOICES }),
  show: (result) => written(result.text, result),
  say: (result) => result.text,
  decision: (result) => result.text,
};

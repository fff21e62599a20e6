// Translation: the text in the other language, as it is written.

import { field, select } from "../playground/dom.js";
import { isStreamed, writingForm, written } from "../playground/writing.js";

const CHOICES = [
  ["window", "Translate long sentences in pieces"],
  ["truncate", "Cut long sentences"],
  ["error", "Refuse it"],
];

export default {
  route: "v1/translate",
  verb: "Translate",
  words: "translation",
  wholeSentences: true,
  explained: null,
  streams: isStreamed,

  form(again, model) {
    const form = writingForm({ label: "Text", rows: 8, what: "text", choices: CHOICES });
    const { sources = [], targets = [], source = "", target = "" } = model.task_options;
    const languages = [
      ["From", "source", sources, source],
      ["Into", "target", targets, target],
    ].filter(([, , codes]) => codes.length > 1).map(([label, name, codes, usual]) => {
      const input = select(codes.map((code) => [code, nameOf(code)]), usual || codes[0]);
      return { name, input, node: field(label, input) };
    });
    return {
      ...form,
      main: [...languages.map((entry) => entry.node), ...form.main],
      read: () => ({ ...form.read(), ...Object.fromEntries(languages.map(({ name, input }) => [name, input.value])) }),
    };
  },

  show: (result) => written(result.translation, result),
  say: (result) => result.translation,
  decision: (result) => result.translation,
};

/** What a language is called, where the browser knows its code. */
function nameOf(code) {
  try {
    const name = new Intl.DisplayNames("en", { type: "language", fallback: "none" }).of(code.replaceAll("_", "-"));
    return name ? `${name} (${code})` : code;
  } catch {
    return code;
  }
}

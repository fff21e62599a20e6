// What models that write share: the form, how the text is written, and what is told of it.

import { el, field, select, slider, textField } from "./dom.js";

const ENOUGH_S = 0.25; // pieces that come at once have no speed
const BEAMS = [["1", "1: the text appears as it is written"], ["2", "2"], ["4", "4"], ["8", "8"]];

/** What the module of a task on `v1/generate` exports; `cut` says what becomes of a text that is too long and is not refused. */
export function generation({ verb, words, cut }) {
  const choices = [
    ["error", "Refuse it"],
    ["truncate", cut],
  ];
  return {
    route: "v1/generate",
    verb,
    words,
    explained: null,
    streams: isStreamed,
    form: () => writingForm({ label: "Text", rows: 8, what: "text", choices }),
    show: (result) => written(result.text, result),
    say: (result) => result.text,
    decision: (result) => result.text,
  };
}

/** How fast a text is written, in words, by what `pace` (service.js) knows. */
export function speedOf({ tokens, seconds, perS, firstMs }) {
  const count = `${tokens.toLocaleString("en")} token${tokens === 1 ? "" : "s"}`;
  if (perS !== null && seconds > ENOUGH_S) return `${count}, ${perS.toFixed(perS < 10 ? 1 : 0)} tokens/s`;
  return firstMs === null ? count : `${count}, after ${Math.round(firstMs)} ms`;
}

/** The parts of a form: `main` and `options` (more of them may follow), `truncation`, `read`, `fill`. `choices` are those of a long text. */
export function writingForm({ label, rows = 6, what, choices }) {
  const text = textField({ rows, required: true });
  const longest = el("input", { type: "number", min: 1, step: 1, inputMode: "numeric", placeholder: "as the model does" });
  const beams = select(BEAMS, "1");
  const temperature = slider("Temperature (0: always the likeliest token)", { min: 0, max: 2, step: 0.1, value: 0 }, (value) => (value ? value.toFixed(1) : "0"), () => {
    beams.disabled = temperature.get() > 0; // with beams nothing is drawn
  });
  const truncation = select(choices, choices[0][0]);
  return {
    main: [field(label, text)],
    options: [
      field("Tokens to write at most", longest),
      field("Beams", beams, "More of them are slower, and may find a better text."),
      temperature.node,
      field(`Where the ${what} is too long for the model`, truncation),
    ],
    truncation,
    read: () => ({
      inputs: text.value,
      ...(longest.value ? { max_new_tokens: Number(longest.value) } : {}),
      ...(temperature.get() > 0 ? { temperature: temperature.get() } : { temperature: 0, num_beams: Number(beams.value) }),
      truncation: truncation.value,
    }),
    fill: (example) => {
      text.value = example.text;
    },
  };
}

/** Whether the text comes piece by piece. */
export function isStreamed(asked) {
  return (asked.num_beams ?? 1) === 1;
}

/** The text, and how it ended. */
export function written(text, result) {
  const count = `${result.num_new_tokens.toLocaleString("en")} tokens`;
  const end = result.finish_reason === "length" ? `It was cut off at its longest, ${count}.` : `${count}.`;
  return el(
    "div",
    {},
    el("p", { class: "best prose written", dir: "auto" }, text),
    ...(result.alternatives ?? []).map((other) => el("p", { class: "prose written", dir: "auto" }, other)),
    el("p", { class: "hint" }, end),
  );
}

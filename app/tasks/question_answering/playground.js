// Question answering: the answer lit up in its context, and the runners-up a click away.

import { bar, el, field, percent, select } from "../playground/dom.js";
import { pieces } from "../playground/text.js";
import { LIBRARY, PLOT } from "../playground/examples.js";

const EXAMPLES = [
  { name: "When?", question: "When did the new library open?", context: LIBRARY },
  { name: "Who?", question: "Who saved the manuscripts?", context: LIBRARY },
  { name: "Where?", question: "Where is the café?", context: LIBRARY },
  { name: "A long context", question: "How many people fit into the reading room?", context: `${PLOT.join(" ")} `.repeat(6) + LIBRARY },
];

export default {
  examples: EXAMPLES,
  route: "v1/answer",
  verb: "Answer",
  words: "question answering",

  form() {
    const question = el("input", { type: "text", required: true, autocomplete: "off" });
    const context = el("textarea", { rows: 10, required: true, spellcheck: false });
    const topK = select(["1", "3", "5", "10"].map((number) => [number, number]), "3");
    const noAnswer = el("input", { type: "checkbox", id: "no-answer" });
    const truncation = select(
      [
        ["window", "Read all of it, in windows"],
        ["truncate", "Cut it"],
        ["error", "Refuse it"],
      ],
      "window",
    );
    return {
      main: [field("Question", question), field("Context", context)],
      options: [
        field("Answers to look for", topK),
        field("Where the text is too long for the model", truncation),
        el("label", { class: "check" }, noAnswer, "“There is no answer” may be the answer"),
      ],
      truncation,
      read: () => ({
        inputs: { question: question.value, context: context.value },
        top_k: Number(topK.value),
        allow_no_answer: noAnswer.checked,
        truncation: truncation.value,
      }),
      fill: (example) => {
        question.value = example.question;
        context.value = example.context;
      },
    };
  },

  show(result, asked) {
    const context = el("p", { class: "document", tabIndex: 0, role: "group", "aria-label": "The text, with the answer marked" });
    const chosen = el("p", { class: "best" });
    const pick = (entry) => {
      chosen.replaceChildren(entry.answer || "The text does not say.");
      const spans = entry.answer ? [entry] : [];
      context.replaceChildren(...pieces(asked.inputs.context, spans).map((piece) => (piece.span ? el("mark", {}, piece.text) : piece.text)));
      context.querySelector("mark")?.scrollIntoView({ block: "nearest" });
    };
    const list = result.answers.length > 1 ? runnersUp(result.answers, pick) : null;
    if (result.answers.length) queueMicrotask(() => pick(result.answers[0])); // once it is on the page, it can be scrolled to
    else chosen.textContent = "No answer was found.";
    const none = `P(no answer): ${percent(result.no_answer_score)}.`;
    const sure = result.answers.length === 1 ? `Score ${percent(result.answers[0].score)}. ` : "";
    return el("div", {}, chosen, list, context, el("p", { class: "hint" }, sure, none));
  },

  say: (result) => (result.answers.length ? `${result.answers[0].answer || "no answer"}, ${percent(result.answers[0].score)}` : "no answer was found"),
};

let groups = 0;

function runnersUp(answers, pick) {
  const name = `answers-${++groups}`;
  const choices = answers.map((entry, index) =>
    el(
      "label",
      { class: "choice" },
      el("input", { type: "radio", name, checked: index === 0, onchange: () => pick(entry) }),
      el("span", { class: "label" }, entry.answer || "(no answer)"),
      el("span", { class: "score" }, percent(entry.score)),
      bar(entry.score),
    ),
  );
  return el("fieldset", { class: "choices" }, el("legend", {}, "The best answer and its runners-up"), ...choices);
}

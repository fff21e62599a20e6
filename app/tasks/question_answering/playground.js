// Question answering: the answer lit up in its context, and the runners-up a click away.

import { bar, el, field, percent, select, textField, truncationField } from "../playground/dom.js";
import { pieces } from "../playground/text.js";

export default {
  route: "v1/answer",
  verb: "Answer",
  words: "question answering",

  form() {
    const question = el("input", { type: "text", required: true, autocomplete: "off", dir: "auto" });
    const context = textField({ rows: 10, required: true });
    const topK = select(["1", "3", "5", "10"].map((number) => [number, number]), "3");
    const noAnswer = el("input", { type: "checkbox", id: "no-answer" });
    const truncation = truncationField("context");
    return {
      main: [field("Question", question), field("Context", context)],
      options: [
        field("Answers to look for", topK),
        truncation.node,
        el("label", { class: "check" }, noAnswer, "“There is no answer” may be the answer"),
      ],
      truncation: truncation.select,
      read: () => ({
        inputs: { question: question.value, context: context.value },
        top_k: Number(topK.value),
        allow_no_answer: noAnswer.checked,
        truncation: truncation.select.value,
      }),
      fill: (example) => {
        question.value = example.question;
        context.value = example.context;
      },
    };
  },

  show(result, asked) {
    const context = el("p", { class: "document", dir: "auto", tabIndex: 0, role: "group", "aria-label": "The text, with the answer marked" });
    const chosen = el("p", { class: "best", dir: "auto" });
    const pick = (entry) => {
      chosen.replaceChildren(entry.answer || "No answer in the context.");
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

  decision: (result) => result.answers[0]?.answer ?? "",
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

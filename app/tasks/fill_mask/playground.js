// Fill-mask: for each mask the likeliest tokens as bars, and the text with the one that is picked.

import { bar, el, field, percent, select, textField, truncationField } from "../playground/dom.js";

export default {
  route: "v1/fill",
  verb: "Fill",
  words: "fill-mask",

  form() {
    const text = textField({ rows: 6, required: true });
    const topK = select(["3", "5", "10", "25"].map((number) => [number, number]), "5");
    const targets = el("input", { type: "text", autocomplete: "off", dir: "auto" });
    const truncation = truncationField("text");
    return {
      main: [field("Text with masks", text, "The mask is the model's own token, such as [MASK] or <mask>.")],
      options: [
        field("Tokens for each mask", topK),
        field("Only these words", targets, "With commas between them; empty: any token."),
        truncation.node,
      ],
      truncation: truncation.select,
      read: () => {
        const words = targets.value.split(",").map((word) => word.trim()).filter(Boolean);
        const body = { inputs: text.value, top_k: Number(topK.value), truncation: truncation.select.value };
        return words.length ? { ...body, targets: words } : body;
      },
      fill: (example) => {
        text.value = example.text;
      },
    };
  },

  show(result) {
    const several = result.masks.length > 1;
    return el("div", {}, ...result.masks.map((mask, index) => filledMask(mask, several ? `Mask ${index + 1}` : "")));
  },

  say: (result) => result.masks.map((mask) => `${mask.fills[0].token}, ${percent(mask.fills[0].score)}`).join("; "),

  decision: (result) => result.masks.map((mask) => mask.fills[0].token).join(" | "),
};

let groups = 0;

function filledMask(mask, title) {
  const sequence = el("p", { class: "document", dir: "auto", "aria-live": "polite" }, mask.fills[0].sequence);
  const name = `mask-${++groups}`;
  const choices = mask.fills.map((fill, index) =>
    el(
      "label",
      { class: "choice" },
      el("input", { type: "radio", name, checked: index === 0, onchange: () => sequence.replaceChildren(fill.sequence) }),
      el("span", { class: "label", dir: "auto" }, fill.token),
      el("span", { class: "score" }, percent(fill.score)),
      bar(fill.score),
    ),
  );
  const legend = el("legend", {}, title || "The likeliest tokens");
  return el("div", {}, el("fieldset", { class: "choices" }, legend, ...choices), sequence);
}

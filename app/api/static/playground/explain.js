// "Why?": the words of the text, coloured by what they did to the answer.

import { el } from "./dom.js";
import { ask, nameOf, Trouble, troubleOfItem } from "./service.js";
import { cutter, pieces } from "./text.js";

const STEPS = [0.1, 0.35, 0.7]; // of the largest weight: below the first a word stays plain
const LISTED = 4;

/** A button, and the place where its answer appears. `item` is what is explained, as `/v1/explain` takes it. */
export function why(model, item, amount, say, needKey) {
  const place = el("div", { class: "why", hidden: true });
  const button = el("button", { type: "button", class: "quiet" }, "Why?");
  button.addEventListener("click", async () => {
    button.disabled = true;
    place.hidden = false;
    place.replaceChildren(el("p", { class: "hint" }, "Asking the model again with words left out…"));
    try {
      const reply = await ask("v1/explain", { model: nameOf(model), inputs: item, target: null });
      const result = reply.body.results[0];
      if (result.error) throw troubleOfItem(result.error);
      place.replaceChildren(...explanation(result, sources(item), amount));
      say(`Explained. ${spoken(result)}`);
    } catch (error) {
      const trouble = inWords(error);
      place.replaceChildren(el("div", { class: "note cut" }, el("p", {}, el("strong", {}, `${trouble.message} `), trouble.detail)));
      say(`${trouble.message} ${trouble.detail}`);
      if (trouble.status === 401) needKey();
    }
    button.disabled = false;
  });
  return { button, place };
}

function inWords(error) {
  if (!(error instanceof Trouble)) return new Trouble("The explanation could not be read.", String(error));
  const missing = error.status === 404 && error.message.includes("route");
  return missing ? new Trouble("This service cannot explain its answers.", "It has no route /v1/explain; a newer version has.") : error;
}

/** The texts that a token's place may be counted in: pairs of a field and its text, the one that is read most first. */
function sources(inputs) {
  if (typeof inputs === "string") return [["text", inputs]];
  const names = new Set(["context", "question", "text", "text_pair", "document", ...Object.keys(inputs)]);
  return [...names].filter((name) => typeof inputs[name] === "string").map((name) => [name, inputs[name]]);
}

function explanation(result, texts, amount) {
  const largest = Math.max(...result.tokens.map((entry) => Math.abs(entry.weight)), 1e-9);
  const paragraphs = placed(result.tokens, texts).map(([text, tokens]) =>
    el("p", { class: "document words" }, ...pieces(text, tokens).map((piece) => word(piece, largest))),
  );
  const about = `What contributes to “${result.target}”, and what against. Its score is ${amount(result.score)}.`;
  return [el("h3", {}, "Why?"), el("p", { class: "hint" }, about), legend(), ...paragraphs, el("p", {}, spoken(result))];
}

/** Tokens with the text that they are places of: pairs `[text, tokens]`. */
function placed(tokens, texts) {
  const cutters = texts.map(([name, text]) => [name, cutter(text)]);
  const fits = (entry, cut) => cut(entry.start, entry.end) === entry.text;
  const only = cutters.find(([, cut]) => tokens.every((entry) => fits(entry, cut)))?.[0];
  // a token may name its field; else it lies in the field that fits all of them, or the first that fits it
  const fieldOf = (entry) => entry.field ?? only ?? cutters.find(([, cut]) => fits(entry, cut))?.[0];
  const found = texts.map(([name, text]) => [text, tokens.filter((entry) => fieldOf(entry) === name)]);
  return found.filter(([, some]) => some.length);
}

function word(piece, largest) {
  if (!piece.span) return piece.text;
  const share = Math.abs(piece.span.weight) / largest;
  const step = STEPS.filter((limit) => share >= limit).length;
  if (!step) return piece.text;
  const side = piece.span.weight > 0 ? "for" : "against";
  return el("span", { class: `${side} step-${step}`, title: `${side} it: ${signed(piece.span.weight)}` }, piece.text);
}

function legend() {
  return el(
    "p",
    { class: "legend" },
    el("span", { class: "for step-2" }, "for it, solid line"),
    el("span", { class: "against step-2" }, "against it, dashed line"),
    "The darker and thicker, the more.",
  );
}

/** The strongest words of both sides, in a sentence: colours are not for everybody. */
function spoken(result) {
  const sorted = [...result.tokens].sort((entry, other) => other.weight - entry.weight);
  const named = (some) => some.slice(0, LISTED).map((entry) => `${entry.text} (${signed(entry.weight)})`).join(", ");
  const helped = named(sorted.filter((entry) => entry.weight > 0));
  const hurt = named(sorted.filter((entry) => entry.weight < 0).reverse());
  return [helped && `Strongest evidence for: ${helped}.`, hurt && `Strongest evidence against: ${hurt}.`].filter(Boolean).join(" ");
}

function signed(weight) {
  return `${weight < 0 ? "−" : "+"}${Math.abs(weight).toFixed(2)}`;
}

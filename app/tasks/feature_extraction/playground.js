// Feature extraction: how alike the lines of a text are, as a heat map of the cosines of their vectors.

import { el, field, labelsField, percent, textField, truncationField } from "../playground/dom.js";

const MAX_TEXTS = 16; // more would be a map that nobody reads
const MAX_NAME = 60; // characters of a text beside its row

const linesOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, MAX_TEXTS);

const cosine = (vector, other) => {
  const dot = (first, second) => first.reduce((sum, value, index) => sum + value * second[index], 0);
  return dot(vector, other) / (Math.sqrt(dot(vector, vector) * dot(other, other)) || 1);
};

const named = (text) => {
  const points = Array.from(text);
  return points.length > MAX_NAME ? `${points.slice(0, MAX_NAME).join("")}…` : text;
};

const nearest = (row, number) => row.reduce((best, value, other) => (other !== number && (best < 0 || value > row[best]) ? other : best), -1);

export default {
  route: "v1/embed",
  verb: "Compare",
  words: "feature extraction",
  explained: null, // a vector decides nothing

  routeFor: (asked) => (asked.labels ? "v1/zero-shot" : "v1/embed"),

  form(again, model) {
    const text = textField({ rows: 8, required: true });
    const truncation = truncationField("text");
    const labels = labelsField("With commas between; each text then gets the label that is nearest to it.");
    text.value = model.examples.map((example) => example.text).join("\n");
    return {
      main: [field("Texts, one a line", text, `Up to ${MAX_TEXTS} texts; each is compared with each.`), labels.node],
      options: [truncation.node],
      truncation: truncation.select,
      read: () => {
        const own = labels.read();
        return { inputs: linesOf(text.value), ...(own.length ? { labels: own } : {}), truncation: truncation.select.value };
      },
      fill: (example) => {
        const lines = linesOf(text.value);
        if (!lines.includes(example.text)) lines.push(example.text.replaceAll("\n", " "));
        text.value = lines.join("\n");
      },
    };
  },

  answer({ results }) {
    const failed = results.find((result) => result.error);
    if (failed) return failed;
    if (results[0].labels) return { labelled: results, num_tokens: results[0].num_tokens, truncated: results.some((result) => result.truncated) };
    return {
      embeddings: results.map((result) => result.embedding),
      num_tokens: results.reduce((sum, result) => sum + result.num_tokens, 0),
      truncated: results.some((result) => result.truncated),
    };
  },

  show(result, asked) {
    if (result.labelled || result.labels) return labelled(result.labelled ?? [result], asked);
    const vectors = result.embeddings ?? [result.embedding];
    const texts = Array.isArray(asked.inputs) ? asked.inputs : [asked.inputs];
    const map = vectors.map((vector) => vectors.map((other) => cosine(vector, other)));
    const cell = (value, row, column) => {
      const strength = Math.max(0, Math.min(1, value));
      const node = el("td", { title: `${row + 1} and ${column + 1}: ${value.toFixed(3)}` }, value.toFixed(2));
      node.style.setProperty("--strength", `${Math.round(strength * 100)}%`);
      return node;
    };
    const header = el("tr", {}, el("th", {}, el("span", { class: "unseen" }, "Text")), ...texts.map((text, number) => el("th", { title: text, scope: "col" }, `${number + 1}`)));
    const rows = map.map((row, number) => el("tr", {}, el("th", { scope: "row", dir: "auto", title: texts[number] }, `${number + 1}. ${named(texts[number])}`), ...row.map((value, column) => cell(value, number, column))));
    const size = `${vectors[0].length} numbers a text. The closer to 1, the more alike two texts are to this model.`;
    return el(
      "div",
      {},
      el("div", { class: "heatmap", tabIndex: 0, role: "group", "aria-label": "Similarity of each text with each" }, el("table", {}, el("thead", {}, header), el("tbody", {}, ...rows))),
      el("p", { class: "hint" }, size),
    );
  },

  say(result) {
    if (result.labels) return `${result.labels[0].label}, ${percent(result.labels[0].score)}`; // of a row of a file
    if (result.labelled) return result.labelled.map((entry, number) => `text ${number + 1}: ${entry.labels[0].label}`).join(", ");
    const vectors = result.embeddings ?? [result.embedding];
    if (vectors.length < 2) return `a vector of ${vectors[0].length} numbers`;
    const first = vectors.map((other) => cosine(vectors[0], other));
    const best = nearest(first, 0);
    return `text 1 is most like text ${best + 1}, with ${first[best].toFixed(2)}`;
  },
};

/** The nearest label of each text, with what it is of all of them. */
function labelled(results, asked) {
  const texts = Array.isArray(asked.inputs) ? asked.inputs : [asked.inputs];
  const rows = results.map(({ labels }, number) =>
    el("li", {}, el("span", { class: "label", dir: "auto" }, `${labels[0].label}: ${named(texts[number])}`), el("span", { class: "score" }, percent(labels[0].score))),
  );
  return el("div", {}, el("ol", { class: "labels" }, ...rows), el("p", { class: "hint" }, "Shares of the labels by how near they are to the text; no probabilities."));
}

// Text ranking: the documents as a list, best first, each with a bar.

import { bar, difference, el, field, percent, textField, truncationField } from "../playground/dom.js";

const SHOWN = 300; // characters of a document

export default {
  route: "v1/rerank",
  verb: "Rank",
  words: "ranking of documents",
  takesFiles: false,

  form(again, model) {
    const query = el("input", { type: "text", required: true, dir: "auto" });
    const documents = textField({ rows: 10, required: true });
    const truncation = truncationField("document");
    const sample = [...new Set(model.examples.map((example) => example.document))];
    return {
      main: [field("Query", query), field("Documents", documents, "One on each line.")],
      options: [truncation.node],
      truncation: truncation.select,
      read: () => ({ query: query.value, documents: linesOf(documents.value), truncation: truncation.select.value }),
      fill: (example) => {
        query.value = example.query;
        const others = sample.filter((document) => document !== example.document);
        documents.value = [example.document, ...others].map((document) => document.replace(/\s+/g, " ")).join("\n");
      },
    };
  },

  answer: (body) => {
    const documents = body.results.filter((entry) => !entry.error);
    if (!documents.length) return body.results[0];
    return { documents, num_tokens: body.usage.num_tokens, truncated: documents.some((entry) => entry.truncated) };
  },

  explained: (asked, result) => ({ query: asked.query, document: asked.documents[result.documents[0].index] }),

  show(result, asked) {
    const rows = result.documents.map((entry) => {
      const text = asked.documents[entry.index];
      const shown = text.length > SHOWN ? `${Array.from(text).slice(0, SHOWN).join("")}…` : text;
      const name = el("span", { class: "label", dir: "auto" }, shown);
      return el("li", {}, name, el("span", { class: "score" }, percent(entry.relevance_score)), bar(entry.relevance_score));
    });
    return el("ol", { class: "labels" }, ...rows);
  },

  say: (result) => `best is number ${result.documents[0].index + 1} of ${result.documents.length}, ${percent(result.documents[0].relevance_score)}`,

  decision: (result) => result.documents.map((entry) => entry.index).join(", "),

  differences(result, other) {
    const places = new Map(other.documents.map((entry, place) => [entry.index, place]));
    const moved = result.documents.map((entry, place) => [entry.index, place]).filter(([index, place]) => places.get(index) !== place);
    return moved.map(([index, place]) => difference(`Document ${index + 1}`, `place ${place + 1}`, `place ${(places.get(index) ?? place) + 1}`));
  },
};

function linesOf(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

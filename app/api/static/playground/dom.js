// Elements without markup in strings: nothing a model or a caller says is ever read as HTML.

/**
 * An element. `properties` are set on it; `class`, `for`, `role` and names with a dash are set as attributes, and
 * functions under `on…` listen.
 */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (name.includes("-") || ["class", "for", "role"].includes(name)) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The same for a drawing; every property is an attribute. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

let lastId = 0;

/** A label above a control, and a hint below it where there is one. */
export function field(text, control, hint = "") {
  control.id ||= `field-${++lastId}`;
  const label = el("label", { for: control.id }, text);
  if (!hint) return el("div", { class: "field" }, label, control);
  control.setAttribute("aria-describedby", `${control.id}-hint`);
  return el("div", { class: "field" }, label, control, el("p", { class: "hint", id: `${control.id}-hint` }, hint));
}

/** A select; `choices` are pairs of value and text. */
export function select(choices, chosen) {
  const options = choices.map(([value, text]) => el("option", { value, selected: value === chosen }, text));
  return el("select", {}, ...options);
}

/** A text of several lines, in whichever direction its own letters run. */
export function textField(properties) {
  return el("textarea", { spellcheck: false, dir: "auto", ...properties });
}

/** Labels that the model was not trained on, with commas between: `{node, read}`. */
export function labelsField(hint) {
  const input = el("input", { type: "text", dir: "auto" });
  const read = () => input.value.split(",").map((label) => label.trim()).filter(Boolean);
  return { node: field("Labels of your own", input, hint), read };
}

/** What becomes of a text that the model cannot read at once: `{node, select}`. */
export function truncationField(what) {
  const choices = [
    ["window", "Read all of it, in windows"],
    ["truncate", "Cut it"],
    ["error", "Refuse it"],
  ];
  const input = select(choices, "window");
  return { node: field(`Where the ${what} is too long for the model`, input), select: input };
}

/** A value that two versions answer differently. */
export function difference(name, before, after) {
  return el("li", {}, el("strong", { dir: "auto" }, name), `: ${before} → ${after}`);
}

/** A slider with its value written beside it; `show` turns the number into that text. */
export function slider(text, range, show, changed) {
  const input = el("input", { type: "range", ...range, id: `field-${++lastId}` });
  const shown = el("span", { class: "value", "aria-hidden": "true" }); // the slider itself tells it
  const tell = () => {
    shown.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", () => {
    tell();
    changed(Number(input.value));
  });
  tell();
  const node = el("div", { class: "slider" }, el("label", { for: input.id }, text), input, shown);
  return { node, get: () => Number(input.value) };
}

/** A part of one as a percentage. */
export function percent(part) {
  const value = part * 100;
  return `${value >= 99.95 || value === 0 ? value.toFixed(0) : value < 0.1 ? "under 0.1" : value.toFixed(1)} %`;
}

/** A bar filled to a part of one; says nothing to a screen reader, the number beside it does. */
export function bar(part, ...more) {
  const fill = el("span", { class: "fill" });
  fill.style.width = `${Math.max(0, Math.min(1, part)) * 100}%`;
  return el("span", { class: "bar", "aria-hidden": "true" }, fill, ...more);
}

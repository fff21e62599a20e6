// A desk is one model's form and the place where its answers appear. It is kept while other models are looked at.

import { copyButtons } from "./copy.js";
import { el } from "./dom.js";
import { why } from "./explain.js";
import { facts, lengthNote } from "./facts.js";
import { ask, nameOf, Trouble, troubleOfItem } from "./service.js";

/** `page` has `say(sentence)` for screen readers, and `needKey()` that shows where a key is entered. */
export function desk(model, task, page) {
  const place = el("div", { class: "answer" }, el("p", { class: "hint empty" }, "No prediction yet."));
  const button = el("button", { class: "primary" }, task.verb);
  let running = null;

  const again = () => {
    if (place.querySelector(".facts")) submit();
  };
  const form = task.form(again);

  async function submit() {
    const isFirst = !place.querySelector(".facts");
    running?.abort();
    const mine = (running = new AbortController());
    const asked = { model: nameOf(model), ...form.read() };
    place.setAttribute("aria-busy", "true");
    button.classList.add("busy");
    try {
      const reply = await ask(task.route, asked, mine.signal);
      const result = reply.body.results[0];
      if (result.error) throw troubleOfItem(result.error);
      place.replaceChildren(...shown(reply, result, asked));
      page.say(`Answer: ${task.say(result)}`);
    } catch (error) {
      if (error.name === "AbortError") return; // a newer question has taken its place
      const trouble = error instanceof Trouble ? error : new Trouble("The answer could not be read.", String(error));
      place.replaceChildren(troubled(trouble));
      if (trouble.status === 401) page.needKey();
    }
    if (isFirst) bringIntoView(place.previousElementSibling);
    place.removeAttribute("aria-busy");
    button.classList.remove("busy");
  }

  function shown(reply, result, asked) {
    const explained = why(model, asked, page.say, page.needKey);
    const copied = copyButtons(task.route, asked, page.say);
    const readAll = asked.truncation === "window" ? null : () => {
      form.truncation.value = "window";
      submit();
    };
    return [
      lengthNote(model, result, task.wholeSentences, readAll),
      task.show(result, asked),
      el("div", { class: "row actions" }, explained.button, ...copied.buttons),
      copied.shown,
      explained.place,
      facts(model, reply),
    ].filter(Boolean);
  }

  function troubled(trouble) {
    const retry = el("button", { type: "button", class: "quiet", onclick: submit }, "Try again");
    const wait = el("span", { class: "hint" });
    if (trouble.waitS > 0) countDown(trouble.waitS, retry, wait);
    const known = [413, 422].includes(trouble.status); // the same request would fail in the same way
    return el(
      "div",
      { class: "note trouble", role: "alert" },
      el("p", {}, el("strong", {}, trouble.message), " ", trouble.detail),
      known ? null : el("div", { class: "row" }, retry, wait),
    );
  }

  const examples = (task.examples ?? []).map((example) => {
    const fill = () => {
      form.fill(example);
      submit();
    };
    return el("button", { type: "button", class: "chip", onclick: fill }, example.name);
  });
  if (task.examples?.length) form.fill(task.examples[0]);

  const submitted = (event) => {
    event.preventDefault();
    submit();
  };
  const hurried = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.requestSubmit();
  };
  return el(
    "div",
    { class: "columns" },
    el(
      "section",
      { class: "card", "aria-labelledby": "ask-title" },
      el("h2", { id: "ask-title" }, "Your text"),
      el("p", { class: "hint" }, model.description),
      el("div", { class: "chips", role: "group", "aria-label": "Examples" }, ...examples),
      el(
        "form",
        { onsubmit: submitted, onkeydown: hurried },
        ...form.main,
        el("details", {}, el("summary", {}, "Options"), ...form.options),
        el("div", { class: "row" }, button, el("span", { class: "hint" }, "or Ctrl + Enter")),
      ),
    ),
    el("section", { class: "card", "aria-labelledby": "answer-title" }, el("h2", { id: "answer-title" }, "Answer"), place),
  );
}

/** On a phone the answer lies below the form: show where it begins, unless that can be seen already. */
function bringIntoView(heading) {
  const { top } = heading.getBoundingClientRect();
  if (top > window.innerHeight - 120) heading.scrollIntoView({ block: "start" });
}

/** Keep a button switched off for so many seconds, and say how many are left. */
function countDown(seconds, button, words) {
  button.disabled = seconds > 0;
  words.textContent = seconds > 0 ? `in ${seconds} ${seconds === 1 ? "second" : "seconds"}` : "";
  if (seconds > 0) setTimeout(() => countDown(seconds - 1, button, words), 1000);
}

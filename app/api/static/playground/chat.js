// A conversation with a model whose checkpoint has a chat template: its turns stay in the page, and are sent with every new one.

import { copyButtons } from "./copy.js";
import { el, field, slider, textField } from "./dom.js";
import { converse, nameOf, Trouble } from "./service.js";
import { speedOf } from "./writing.js";

const ROUTE = "v1/chat/completions";
const ENDS = { length: "cut off at its longest", stopped: "stopped" };
const NEAR = 40; // pixels

/** A desk for conversations, and the one of single texts, which `plain` makes once it is wanted, behind a switch. */
export function conversation(model, page, plain) {
  const chat = talk(model, page);
  let single = null;
  const place = el("div", {}, chat);
  const show = (isChat) => {
    single ??= isChat ? null : plain();
    place.replaceChildren(isChat ? chat : single);
  };
  const name = `mode-${model.name}-${model.version}`;
  const mode = (words, isChat) => el("label", {}, el("input", { type: "radio", name, checked: isChat, onchange: () => show(isChat) }), words);
  const modes = el("fieldset", { class: "modes" }, el("legend", { class: "unseen" }, "What is asked"), mode("Conversation", true), mode("Text to continue", false));
  const node = el("div", { class: "switched" }, modes, place);
  node.refresh = () => single?.refresh();
  return node;
}

function talk(model, page) {
  const messages = []; // all turns but the system's message, as they are sent
  const empty = el("p", { class: "hint empty" }, "Nothing said yet. What is said here is kept until you leave the page.");
  const turns = el("div", { class: "turns", role: "log", "aria-live": "off", "aria-label": "Conversation", tabIndex: 0 }, empty);
  const text = textField({ rows: 2, required: true });
  const system = textField({ rows: 3, placeholder: "as the model does" });
  const longest = el("input", { type: "number", min: 1, step: 1, inputMode: "numeric", placeholder: "as the model does" });
  const temperature = slider("Temperature (0: always the likeliest token)", { min: 0, max: 2, step: 0.1, value: 0 }, (value) => (value ? value.toFixed(1) : "0"), () => {});
  const sending = el("button", { class: "primary" }, "Send");
  const stopping = el("button", { type: "button", class: "primary", hidden: true, onclick: () => running.abort() }, "Stop");
  const fresh = el("button", { type: "button", class: "quiet", hidden: true, onclick: begin }, "New conversation");
  const actions = el("div", { class: "copied" });
  let running = null;

  const read = () => ({
    model: nameOf(model),
    messages: [...(system.value.trim() ? [{ role: "system", content: system.value }] : []), ...messages],
    temperature: temperature.get(),
    ...(longest.value ? { max_completion_tokens: Number(longest.value) } : {}),
  });

  /** What is typed is said, and answered. Where it cannot be, it stands in its field again, and was never said. */
  async function say() {
    const said = text.value;
    const mine = (running = new AbortController());
    const body = read();
    body.messages.push({ role: "user", content: said });
    const answer = turn("assistant", "");
    turns.querySelector(".trouble")?.remove();
    const asked = turn("user", said);
    add(asked, answer);
    answer.words.setAttribute("aria-busy", "true");
    answer.fact.textContent = "Reading…";
    text.value = "";
    busy(true);
    let written = null;
    let trouble = null;
    let end = null;
    try {
      const reply = await converse(ROUTE, body, mine.signal, (piece, now) => {
        written = now;
        following(() => {
          answer.words.append(piece);
          answer.fact.textContent = speedOf(now);
        });
      });
      [written, end] = [reply.written, reply.finish];
    } catch (error) {
      end = "stopped";
      if (error.name !== "AbortError") trouble = error instanceof Trouble ? error : new Trouble("The answer could not be read.", String(error));
    }
    if (mine !== running) return; // another conversation has begun
    answer.words.removeAttribute("aria-busy");
    busy(false);
    const words = answer.words.textContent;
    if (trouble || (end === "stopped" && !words)) takeBack(said, [asked, answer], trouble);
    else following(() => {
      messages.push({ role: "user", content: said }, { role: "assistant", content: words });
      answer.fact.textContent = [written && speedOf(written), ENDS[end]].filter(Boolean).join("; ");
      const copied = copyButtons(ROUTE, body, page.say);
      actions.replaceChildren(el("div", { class: "row" }, ...copied.buttons), copied.shown);
      page.say(`Answer: ${words || "nothing"}`);
    });
    fresh.hidden = messages.length === 0;
  }

  function takeBack(said, nodes, trouble) {
    for (const node of nodes) node.remove();
    text.value ||= said;
    if (!messages.length) turns.append(empty);
    if (!trouble) return page.say("Stopped.");
    turns.append(el("div", { class: "note trouble", role: "alert" }, el("p", {}, el("strong", {}, trouble.message), " ", trouble.detail)));
    if (trouble.status === 401) page.needKey();
  }

  function begin() {
    running?.abort();
    running = null;
    busy(false);
    messages.length = 0;
    turns.replaceChildren(empty);
    actions.replaceChildren();
    fresh.hidden = true;
    text.focus();
  }

  function add(...nodes) {
    empty.remove();
    turns.append(...nodes);
    turns.scrollTop = turns.scrollHeight;
  }

  /** Whoever has scrolled up reads, and is left there; else the end of the turns stays in sight. */
  function following(change) {
    const isAtEnd = turns.scrollHeight - turns.scrollTop - turns.clientHeight < NEAR;
    change();
    if (isAtEnd) turns.scrollTop = turns.scrollHeight;
  }

  function busy(isBusy) {
    sending.hidden = isBusy;
    stopping.hidden = !isBusy;
  }

  const submitted = (event) => {
    event.preventDefault();
    if (!stopping.hidden || !text.value.trim()) return;
    say();
  };
  const hurried = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return; // that Enter ends a word of an input method
    event.preventDefault();
    event.currentTarget.form.requestSubmit();
  };
  text.addEventListener("keydown", hurried);
  return el(
    "section",
    { class: "card chat", "aria-labelledby": "chat-title" },
    el("div", { class: "row head" }, el("h2", { id: "chat-title" }, "Conversation"), fresh),
    model.description ? el("p", { class: "hint" }, model.description) : null,
    turns,
    el(
      "form",
      { onsubmit: submitted },
      field("Message", text),
      el("div", { class: "row" }, sending, stopping, el("span", { class: "hint" }, "Enter sends, Shift + Enter begins a new line.")),
      el(
        "details",
        {},
        el("summary", {}, "Options"),
        field("System message", system, "What the model is told before the conversation; it counts from the next message on."),
        temperature.node,
        field("Tokens to write at most", longest),
      ),
    ),
    actions,
  );
}

/** What somebody said, with a line below it: `words` and `fact`. */
function turn(role, said) {
  const words = el("p", { class: "prose written", dir: "auto" }, said);
  const fact = el("p", { class: "hint" });
  const name = el("p", { class: "hint who" }, role === "user" ? "You" : "Model");
  return Object.assign(el("div", { class: `turn ${role}` }, name, words, role === "user" ? null : fact), { words, fact });
}

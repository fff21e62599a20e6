// A csv file, dropped on the page and answered row by row through the same route as a single text.

import { cells, decoded, key, sniffed, written } from "./csv.js";
import { el, field, select } from "./dom.js";
import { ask, nameOf, Trouble } from "./service.js";

const MAX_ROWS = 10_000;
const MAX_BYTES = 50_000_000;
const MAX_CHUNK = 64; // rows that are sent together
const MAX_CHARACTERS = 150_000; // of them
const PREVIEW = 20;
const MAX_TRIES = 5; // where the service cannot be reached or is starting
const TYPED = "typed";
const NONE = "";

/** A panel for files. `form` is the desk's: its options apply, and its fields where a column is not chosen. */
export function tablePanel(model, task, form, page) {
  const input = el("input", { type: "file", accept: ".csv,.tsv,.txt,text/csv,text/tab-separated-values" });
  const place = el("div", { class: "file" });
  const take = (file) => open(file, place, { model, task, form, page });
  input.addEventListener("change", () => input.files[0] && take(input.files[0]));
  const zone = el(
    "div",
    { class: "drop" },
    field("A csv file: one text per row", input, `Or drop it here. At most ${MAX_ROWS.toLocaleString("en")} rows; it comes back with answers. Nothing is stored.`),
  );
  const over = (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    zone.classList.add("over");
  };
  zone.addEventListener("dragover", over);
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
  return el("details", { class: "table-panel" }, el("summary", {}, "Answer a csv file"), zone, place);
}

async function open(file, place, context) {
  try {
    if (file.size > MAX_BYTES) throw new Error(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB; at most ${MAX_BYTES / 1e6} MB are read here. Use \`hooper batch\`.`);
    const text = decoded(new Uint8Array(await file.arrayBuffer()));
    const delimiter = sniffed(text);
    const rows = cells(text, delimiter);
    if (!rows.length) throw new Error(`${file.name} is empty.`);
    place.replaceChildren(prepared({ name: file.name, delimiter, rows }, context));
  } catch (error) {
    place.replaceChildren(note("trouble", error.message || `${file.name} cannot be read.`));
  }
}

/** Which columns are read, then the button that begins. */
function prepared(file, context) {
  const { model, task, page } = context;
  const isUsed = (name) => task.fields[name].required || name in model.columns || model.examples.some((example) => example[name]);
  const names = Object.keys(task.fields).filter(isUsed);
  const hasHeader = el("input", { type: "checkbox", checked: looksLikeHeader(file.rows[0], names.map((name) => task.fields[name])) });
  const choices = el("div", { class: "field-choices" });
  const error = el("div");
  const progress = el("div", { class: "file" });
  const begin = el("button", { type: "button", class: "primary" });
  let selects = new Map();

  const choose = () => {
    const header = headerOf(file, hasHeader.checked);
    const count = file.rows.length - (hasHeader.checked ? 1 : 0);
    const taken = new Set();
    selects = new Map(
      names.map((name) => {
        const found = columnOf([model.columns[name] ?? [], task.fields[name].columns].flat(), header, taken);
        taken.add(found);
        const columns = header.map((column, index) => [String(index), column]);
        const others = names.length > 1 ? [task.fields[name].required ? [TYPED, "as typed above, for every row"] : [NONE, "none"]] : [];
        const fallback = others[0]?.[0] ?? String(longest(file.rows));
        return [name, select([...columns, ...others], found === undefined ? fallback : String(found))];
      }),
    );
    choices.replaceChildren(...[...selects].map(([name, control]) => field(`Column for ${name.replace("_", " ")}`, control)));
    begin.textContent = `Answer ${count.toLocaleString("en")} row${count === 1 ? "" : "s"}`;
    begin.disabled = count < 1 || count > MAX_ROWS;
    const tooMany = `${file.name} has ${count.toLocaleString("en")} rows; at most ${MAX_ROWS.toLocaleString("en")} are answered here. Use \`hooper batch\`, which has no limit.`;
    error.replaceChildren(...(count > MAX_ROWS ? [note("trouble", tooMany)] : count < 1 ? [note("trouble", `${file.name} has a header and no rows.`)] : []));
  };
  hasHeader.addEventListener("change", choose);
  choose();
  begin.addEventListener("click", () => {
    const columns = new Map([...selects].map(([name, control]) => [name, control.value]));
    run(file, hasHeader.checked, columns, progress, context, begin);
  });
  const parted = { ",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars" }[file.delimiter] ?? `“${file.delimiter}”`;
  page.say(`${file.name} was read.`);
  return el(
    "div",
    { class: "file" },
    el("p", { class: "hint" }, el("strong", { dir: "auto" }, file.name), `: ${file.rows[0].length} column${file.rows[0].length === 1 ? "" : `s, separated by ${parted}`}.`),
    el("label", { class: "check" }, hasHeader, "The first row is a header"),
    choices,
    error,
    el("div", { class: "row" }, begin),
    progress,
  );
}

function headerOf(file, hasHeader) {
  const width = file.rows.reduce((most, row) => Math.max(most, row.length), 0); // spread arguments would be too many
  return Array.from({ length: width }, (_, index) => (hasHeader && file.rows[0][index]) || `column ${index + 1}`);
}

function looksLikeHeader(row, fields) {
  const known = new Set(fields.flatMap((entry) => entry.columns.map(key)));
  if (row.some((cell) => known.has(key(cell)))) return true;
  return row.length > 1 && row.every((cell) => cell.length <= 40 && !/^[\d.,-]+$/.test(cell));
}

/** The column as it was called in the training data, else the likeliest. */
function columnOf(columns, header, taken) {
  for (const name of columns) {
    const index = header.findIndex((column, place) => !taken.has(place) && key(column) === key(name));
    if (index >= 0) return index;
  }
  return undefined;
}

/** The column with the most letters, where no name says which one is meant. */
function longest(rows) {
  const sums = [];
  for (const row of rows.slice(1, 200)) row.forEach((cell, index) => (sums[index] = (sums[index] ?? 0) + cell.length));
  return sums.length ? sums.indexOf(Math.max(...sums)) : 0;
}

function note(kind, words) {
  return el("div", { class: `note ${kind}`, role: kind === "trouble" ? "alert" : "note" }, el("p", {}, words));
}

/** Answer all rows that are not answered yet, until it is done, stopped, or in trouble. */
function run(file, hasHeader, columns, place, context, begin) {
  const { model, task, form, page } = context;
  const first = hasHeader ? 1 : 0;
  const rows = file.rows.slice(first);
  const answers = new Array(rows.length); // a result, or {error}
  const options = form.read(); // as they are when it begins
  const typed = options.inputs;
  const bar = el("progress", { max: rows.length, value: 0, "aria-label": "Rows answered" });
  const state = el("p", { class: "hint" });
  const trouble = el("div");
  const buttons = el("div", { class: "row" });
  const preview = el("tbody");
  const previewed = el("div", { class: "scroll", tabIndex: 0, role: "group", "aria-label": "The first answers" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "row"), el("th", {}, "text"), el("th", {}, "answer"))), preview));
  const numbered = new Map(); // column to its place in a row
  for (const [name, chosen] of columns) if (chosen !== TYPED && chosen !== NONE) numbered.set(name, Number(chosen));
  let next = 0;
  let stopping = null;
  place.replaceChildren(bar, state, trouble, buttons, previewed);

  const item = (row) => {
    const fields = {};
    for (const [name, chosen] of columns) {
      if (chosen === TYPED) fields[name] = typeof typed === "string" ? typed : (typed[name] ?? "");
      else if (chosen !== NONE) fields[name] = row[numbered.get(name)] ?? "";
    }
    return Object.keys(fields).length === 1 ? Object.values(fields)[0] : fields;
  };

  function tell() {
    const failed = answers.reduce((sum, answer) => sum + Boolean(answer?.error), 0);
    bar.value = next;
    const errors = failed ? `, ${failed.toLocaleString("en")} with an error` : "";
    state.textContent = `${next.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows${errors}.`;
  }

  function keep(results) {
    for (const result of results) {
      answers[next] = result;
      if (next < PREVIEW) {
        const text = item(rows[next]);
        const words = typeof text === "string" ? text : Object.values(text).join(" · ");
        preview.append(el("tr", {}, el("td", {}, String(next + 1 + first)), el("td", { dir: "auto" }, clipped(words)), el("td", { dir: "auto" }, result.error ? `error: ${result.error.detail}` : clipped(task.say(result)))));
      }
      next++;
    }
    tell();
  }

  async function work() {
    stopping = new AbortController();
    begin.disabled = true;
    trouble.replaceChildren();
    const stop = el("button", { type: "button", class: "quiet", onclick: () => stopping.abort() }, "Stop");
    buttons.replaceChildren(stop);
    try {
      while (next < rows.length) keep(await answered(chunk(rows, next, item, Math.min(MAX_CHUNK, page.maxItems)), stopping.signal));
      page.say(`All ${rows.length} rows are answered.`);
    } catch (error) {
      if (error.name !== "AbortError") {
        trouble.replaceChildren(note("trouble", error instanceof Trouble ? `${error.message} ${error.detail}` : String(error)));
        if (error.status === 401) page.needKey();
      }
    }
    begin.disabled = false;
    const left = next < rows.length ? el("button", { type: "button", class: "quiet", onclick: work }, "Continue") : null;
    const save = el("button", { type: "button", class: "primary", onclick: () => download(file, hasHeader, answers.slice(0, next), task) }, next < rows.length ? `Download ${next.toLocaleString("en")} rows` : "Download csv");
    buttons.replaceChildren(...[next ? save : null, left].filter(Boolean));
    tell();
  }

  async function answered(items, signal) {
    const empty = items.map((entry) => !String(typeof entry === "string" ? entry : Object.values(entry)[0]).trim());
    if (empty.every(Boolean)) return items.map(() => ({ error: { detail: "the text is empty" } }));
    try {
      const reply = await patiently({ ...options, model: nameOf(model), inputs: items }, signal);
      return reply.body.results;
    } catch (error) {
      if (![413, 422].includes(error.status)) throw error;
      if (items.length === 1) return [{ error: { detail: error.detail } }];
      const half = Math.ceil(items.length / 2); // one of them is the reason
      return [...(await answered(items.slice(0, half), signal)), ...(await answered(items.slice(half), signal))];
    }
  }

  /** Wait where the service says so, as often as it does; where it cannot be reached, a few times. */
  async function patiently(body, signal) {
    for (let tries = 1; ; tries++) {
      try {
        return await ask(task.routeFor?.(body) ?? task.route, body, signal, { "X-Priority": "bulk" });
      } catch (error) {
        const isBusy = error.status === 429;
        const isAway = [0, 502, 503, 504].includes(error.status);
        if (!(error instanceof Trouble) || !(isBusy || (isAway && tries < MAX_TRIES))) throw error;
        const waitS = error.waitS > 0 ? error.waitS : isBusy ? 1 : tries;
        state.textContent = `${next.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows. ${error.message} Trying again in ${waitS} s.`;
        await pause(waitS * 1000, signal);
      }
    }
  }
  work();
}

function chunk(rows, start, item, maxItems) {
  const items = [];
  let length = 0;
  for (let index = start; index < rows.length && items.length < maxItems; index++) {
    const entry = item(rows[index]);
    length += typeof entry === "string" ? entry.length : Object.values(entry).join("").length;
    if (items.length && length > MAX_CHARACTERS) break;
    items.push(entry);
  }
  return items;
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

function clipped(text) {
  const points = Array.from(text);
  return points.length > 120 ? `${points.slice(0, 120).join("")}…` : text;
}

/** The columns of an answer, with the best of what is ranked, and all that is selected where a model selects. */
function answerColumns(answers, { ranked, per_rank: perRank, single }) {
  const selects = answers.some((answer) => answer[ranked]?.[0]?.selected !== undefined);
  const columns = selects ? [["selected", (answer) => answer[ranked].filter((entry) => entry.selected).map((entry) => entry.label).join("|")]] : [];
  columns.push(...perRank.map((name) => [name, (answer) => answer[ranked][0]?.[name]]));
  columns.push(...single.map((name) => [name, (answer) => answer[name]]));
  return columns;
}

function download(file, hasHeader, answers, task) {
  const columns = answerColumns(answers, task.table);
  const header = headerOf(file, hasHeader).map((name, index) => (hasHeader ? (file.rows[0][index] ?? "") : name));
  const taken = new Set(header.map(key));
  const free = (name) => (taken.has(key(name)) ? `predicted ${name}` : name);
  const rows = file.rows.slice(hasHeader ? 1 : 0, answers.length + (hasHeader ? 1 : 0));
  const lines = rows.map((row, index) => {
    const answer = answers[index];
    const own = Array.from({ length: header.length }, (_, place) => row[place] ?? "");
    return [...own, ...columns.map(([, read]) => (answer.error ? null : read(answer))), answer.error?.detail];
  });
  const table = [[...header, ...columns.map(([name]) => free(name)), free("error")], ...lines];
  const link = el("a", {
    href: URL.createObjectURL(new Blob([written(table, file.delimiter)], { type: "text/csv;charset=utf-8" })),
    download: `${file.name.replace(/\.[^.]*$/, "")}-answers.csv`,
  });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

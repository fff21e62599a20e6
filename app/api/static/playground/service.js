// Asks the service, and says in human words what goes wrong.

const ROOT = new URL("../../", import.meta.url); // this file lies two folders below it, whatever the prefix is
const KEY = "hooper.key";
const DONE = "[DONE]"; // what OpenAI's streams end with
let key = remembered();

/** Something that went wrong, told to a person. */
export class Trouble extends Error {
  constructor(title, detail, { status = 0, waitS = 0 } = {}) {
    super(title);
    this.detail = detail;
    this.status = status;
    this.waitS = waitS;
  }
}

export function address(path) {
  return new URL(path, ROOT).href;
}

/** How a request names a model: a version beside the main one, or one that is compared, by its number too. */
export function nameOf(model, withVersion = false) {
  return model.role === "main" && !withVersion ? model.name : `${model.name}/${model.version}`;
}

export function hasKey() {
  return key !== "";
}

/** Send this key from now on, and remember it as long as the tab is open. */
export function useKey(given) {
  key = given;
  try {
    sessionStorage.setItem(KEY, given);
  } catch {
    // storage is switched off: the key is kept until the page is left
  }
}

function remembered() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** GET as text. Throws Trouble. */
export async function read(path) {
  const response = await send(path, {});
  return response.text();
}

/** POST a body. Returns `{body, timing, roundTripMs}`; throws Trouble, or AbortError where `signal` said so. */
export async function ask(path, body, signal, more = {}) {
  const began = performance.now();
  const headers = { "Content-Type": "application/json", ...more };
  const response = await send(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  const answer = await response.json();
  return { body: answer, timing: timingOf(response.headers), roundTripMs: performance.now() - began };
}

/**
 * The same for one text that is told while it is written: `told(text, written)` for each piece, `written` being what `pace` knows
 * by then. Returns what `ask` does, with `written` at its end.
 */
export async function stream(path, body, signal, told) {
  const paced = pace();
  for await (const [name, data] of post(path, { ...body, stream: true }, signal)) {
    if (name === "error") throw new Trouble(inWords(data.status, data), sentence(data.detail), { status: data.status });
    if (name === "done") return { body: data, timing: {}, roundTripMs: paced.elapsedMs(), written: paced.written() };
    told(data.text, paced.count(data.num_new_tokens));
  }
  throw cutOff();
}

/** The same in the shape of OpenAI's conversations. Returns `{written, finish}`, `finish` being why the text ended. */
export async function converse(path, body, signal, told) {
  const paced = pace();
  const options = { stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
  let finish = null;
  for await (const [, data] of post(path, { ...body, ...options }, signal)) {
    if (data === DONE) return { written: paced.written(), finish };
    if (data.error) throw new Trouble("The answer was not finished.", sentence(data.error.message));
    const choice = data.choices[0];
    if (choice?.delta.content) told(choice.delta.content, paced.count(data.usage.completion_tokens));
    finish = choice?.finish_reason ?? finish;
  }
  throw cutOff();
}

/** How fast a text comes: `tokens`, `seconds` since its first piece, `perS`, tokens a second from then on, and `firstMs` until then. */
function pace() {
  const began = performance.now();
  let first = null;
  let tokens = 0;
  const written = () => {
    const seconds = first ? (performance.now() - first.at) / 1000 : 0;
    const perS = first && tokens > first.tokens ? (tokens - first.tokens) / seconds : null;
    return { tokens, seconds, perS, firstMs: first && first.at - began };
  };
  const count = (tokensNow) => {
    tokens = tokensNow;
    first ??= { at: performance.now(), tokens };
    return written();
  };
  return { count, written, elapsedMs: () => performance.now() - began };
}

function cutOff() {
  return new Trouble("The text was cut off.", "The connection ended before the text did.");
}

/** POST a body that is answered by server-sent events: pairs of name and data. */
async function* post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const response = await send(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  yield* events(response.body);
}

/** The server-sent events of a body: pairs of name and data. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const lines = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      if (lines.data) yield [lines.event, lines.data === DONE ? DONE : JSON.parse(lines.data)]; // a comment has none
    }
  }
}

async function send(path, options) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(address(path), { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The service cannot be reached.", `Is it still running at ${ROOT.href}? Is the network up?`);
  }
  if (!response.ok) throw await troubleOf(response);
  return response;
}

async function troubleOf(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // a proxy in between answers in its own words
  }
  const waitS = Number(response.headers.get("Retry-After") ?? 0);
  const detail = sentence(problem.detail ?? problem.error?.message) || `The answer had the status ${response.status}.`;
  return new Trouble(inWords(response.status, problem), detail, { status: response.status, waitS });
}

function inWords(status, problem) {
  if (status === 404 && problem.type !== "unknown_model") return "This service has no such route.";
  const titles = {
    401: hasKey() ? "The service does not accept this API key." : "The service wants an API key.",
    404: "This model is not loaded any more.",
    413: "The text is too long.",
    422: "Something in the request is not right.",
    429: "The service is busy.",
    503: "The service cannot answer just now.",
    504: "The answer took too long.",
  };
  return titles[status] ?? (status >= 500 ? "Something went wrong inside the service." : "The service refused the request.");
}

/** An item's own error, from a list of results that are fine. */
export function troubleOfItem(error) {
  return new Trouble("The text could not be answered.", sentence(error.detail));
}

function sentence(detail) {
  if (typeof detail !== "string" || !detail) return "";
  const text = detail[0].toUpperCase() + detail.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** `{tokenize, queue, inference}` in milliseconds and `batch` in words, of the header Server-Timing. */
export function timingOf(headers) {
  const found = {};
  for (const [, name, ms, words] of (headers.get("Server-Timing") ?? "").matchAll(/([\w-]+);(?:dur=([\d.]+)|desc="([^"]*)")/g)) {
    found[name] = ms === undefined ? words : Number(ms);
  }
  return found;
}

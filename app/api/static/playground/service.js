// Asks the service, and says in human words what goes wrong.

const ROOT = new URL("../../", import.meta.url); // this file lies two folders below it, whatever the prefix is
const KEY = "hooper.key";
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
 * The same for one text that is told while it is written: `told(text, tokens)` for each piece. Returns what `ask` does, with
 * `written`: tokens, tokens a second from the first piece on, and the milliseconds until that.
 */
export async function stream(path, body, signal, told) {
  const began = performance.now();
  const headers = { "Content-Type": "application/json" };
  const response = await send(path, { method: "POST", headers, body: JSON.stringify({ ...body, stream: true }), signal });
  let first = null;
  let tokens = 0;
  for await (const [name, data] of events(response.body)) {
    if (name === "error") throw new Trouble(inWords(data.status, data), sentence(data.detail), { status: data.status });
    if (name === "done") {
      const seconds = (performance.now() - (first?.at ?? began)) / 1000;
      const perS = first && tokens > first.tokens ? (tokens - first.tokens) / seconds : null;
      return { body: data, timing: {}, roundTripMs: performance.now() - began, written: { tokens, perS, firstMs: first && first.at - began } };
    }
    first ??= { at: performance.now(), tokens: data.num_new_tokens };
    tokens = data.num_new_tokens;
    told(data.text, tokens);
  }
  throw new Trouble("The text was cut off.", "The connection ended before the text did.");
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
      if (lines.data) yield [lines.event, JSON.parse(lines.data)]; // a comment has none
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
  const detail = sentence(problem.detail) || `The answer had the status ${response.status}.`;
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

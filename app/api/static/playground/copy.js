// The same request for a terminal and for Python. The key itself is never written out: both read HOOPER_API_KEY.

import { el } from "./dom.js";
import { address, hasKey } from "./service.js";

/** A command for a POSIX shell. */
export function curl(url, body, keyed) {
  const headers = [`-H ${quoted("Content-Type: application/json")}`];
  if (keyed) headers.push('-H "Authorization: Bearer $HOOPER_API_KEY"');
  return [`curl -s ${quoted(url)}`, ...headers, `-d ${quoted(JSON.stringify(body))}`].join(" \\\n  ");
}

/** A program that needs nothing but Python. */
export function python(url, body, keyed) {
  const headers = ['"Content-Type": "application/json"'];
  if (keyed) headers.push('"Authorization": "Bearer " + os.environ["HOOPER_API_KEY"]');
  return `import json
${keyed ? "import os\n" : ""}import urllib.request

body = ${literal(body)}
request = urllib.request.Request(
    ${literal(url)},
    json.dumps(body).encode(),
    {${headers.join(", ")}},
)
with urllib.request.urlopen(request) as response:
    print(json.dumps(json.load(response), indent=2))
`;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A value as Python writes it. JSON's strings are Python's, escapes included. */
function literal(value) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, entry]) => `${JSON.stringify(name)}: ${literal(entry)}`).join(", ")}}`;
}

/** Two buttons, and what they copied below them: where the clipboard is not to be had, it can be taken from there. */
export function copyButtons(route, body, say) {
  const shown = el("pre", { tabIndex: 0, hidden: true, "aria-label": "What was copied" });
  const button = (name, write) => {
    const copy = async () => {
      shown.textContent = write(address(route), body, hasKey());
      shown.hidden = false;
      const copied = await toClipboard(shown.textContent);
      say(copied ? `Copied as ${name}.` : "The browser does not allow copying here: select the text below the buttons.");
    };
    return el("button", { type: "button", class: "quiet", onclick: copy }, `Copy as ${name}`);
  };
  return { buttons: [button("curl", curl), button("Python", python)], shown };
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // over plain HTTP from another machine there is no clipboard
  }
}

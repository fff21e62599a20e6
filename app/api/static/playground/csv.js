// Tables of text: read as spreadsheets write them, and written as Excel opens them.

const DELIMITERS = [",", ";", "\t", "|"];
const SNIFFED = 65_536; // characters from which the delimiter is told

/** The text of a file: UTF-8, UTF-16 with its mark, or else what Western Windows writes. Throws Error with a sentence. */
export function decoded(bytes) {
  if (bytes[0] === 0x50 && bytes[1] === 0x4b) {
    throw new Error("This is a workbook or an archive, not csv. Save it as CSV (UTF-8), or use `hooper batch`, which reads Excel files.");
  }
  if (bytes[0] === 0xd0 && bytes[1] === 0xcf) throw new Error("This is an old Excel workbook, not csv. Save it as CSV (UTF-8).");
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes); // drops a byte order mark
  } catch {
    text = new TextDecoder("windows-1252").decode(bytes);
  }
  if (text.includes("\0")) throw new Error("This is no text file: it holds zero bytes. Save it as CSV (UTF-8).");
  return text;
}

/** The delimiter that cuts most rows into the same number of cells; a comma where there is one column. */
export function sniffed(text) {
  const named = /^sep=(.)\r?\n/.exec(text); // a line that Excel understands
  if (named) return named[1];
  const head = text.slice(0, SNIFFED);
  let best = { delimiter: ",", share: 0, width: 1 };
  for (const delimiter of DELIMITERS) {
    const rows = cells(head, delimiter).slice(0, 50);
    if (head.length < text.length && rows.length > 1) rows.pop(); // it may be cut
    const width = rows[0]?.length ?? 1;
    const share = rows.filter((row) => row.length === width).length / rows.length;
    if (width > 1 && (share > best.share || (share === best.share && width > best.width))) best = { delimiter, share, width };
  }
  return best.delimiter;
}

/** Rows of cells, as RFC 4180 has them, with any line ends; lines without anything are passed over. */
export function cells(text, delimiter) {
  const rows = [];
  let row = [];
  let cell = "";
  let isQuoted = false;
  const start = /^sep=.\r?\n/.exec(text)?.[0].length ?? 0;
  for (let place = start; place < text.length; place++) {
    const sign = text[place];
    if (isQuoted) {
      if (sign !== '"') cell += sign;
      else if (text[place + 1] === '"') {
        cell += '"';
        place++;
      } else isQuoted = false;
    } else if (sign === '"' && cell === "") isQuoted = true;
    else if (sign === delimiter) {
      row.push(cell);
      cell = "";
    } else if (sign === "\n" || sign === "\r") {
      if (sign === "\r" && text[place + 1] === "\n") place++;
      if (row.length || cell) rows.push([...row, cell]);
      row = [];
      cell = "";
    } else cell += sign;
  }
  if (row.length || cell) rows.push([...row, cell]);
  return rows;
}

/** A file that Excel opens: with a byte order mark, and decimal commas where semicolons part the cells, as it expects there. */
export function written(rows, delimiter) {
  const line = (row) => row.map((value) => quoted(guarded(shown(value, delimiter)), delimiter)).join(delimiter);
  return `\ufeff${rows.map((row) => `${line(row)}\r\n`).join("")}`;
}

function shown(value, delimiter) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" && delimiter === ";") return String(value).replace(".", ",");
  return String(value);
}

/** What a spreadsheet would run as a formula gets an apostrophe in front; numbers stay numbers. */
export function guarded(text) {
  const isNumber = /^[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?\s*%?$/.test(text);
  return /^[\s]*[=+\-@]|^[\t\r]/.test(text) && !isNumber ? `'${text}` : text;
}

function quoted(text, delimiter) {
  return text.includes('"') || text.includes("\n") || text.includes("\r") || text.includes(delimiter) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A name as it is compared: case, accents, blanks and signs do not count. */
export function key(name) {
  return name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
}

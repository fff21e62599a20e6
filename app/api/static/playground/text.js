// The service counts characters as Unicode code points; JavaScript's strings are made of UTF-16 units.

/** A function that cuts `text` by code points: `cut(start, end)`. */
export function cutter(text) {
  const points = Array.from(text);
  return (start, end) => points.slice(start, end).join("");
}

/**
 * The text in pieces, in its order: `{text, span}`, where `span` is the one that covers it, or null between them.
 * Spans have `start` and `end` in code points; where two overlap, the later one is left out.
 */
export function pieces(text, spans) {
  const cut = cutter(text);
  const found = [];
  let position = 0;
  for (const span of [...spans].sort((entry, other) => entry.start - other.start)) {
    if (span.start < position || span.end <= span.start) continue;
    if (span.start > position) found.push({ text: cut(position, span.start), span: null });
    found.push({ text: cut(span.start, span.end), span });
    position = span.end;
  }
  const rest = cut(position, undefined);
  if (rest) found.push({ text: rest, span: null });
  return found;
}

"""The one door to `sentencex`: a text's sentences with their character offsets, whatever the text looks like."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sentencex import get_sentence_boundaries

Span = tuple[int, int]
LANGUAGE = "en"
"""Decides which abbreviations end no sentence; full stops of other scripts are known all the same."""
WRAPPED_LINE = 60
"""A line at least so long that ends within a sentence was wrapped; a shorter one is a heading or a list item."""
LONGEST = 800
"""Characters of the longest sentence; what has none of a sentence's marks is broken between words."""
_LINE = re.compile(r"[^\r\n]+")
_LIST_ITEM = re.compile(r"\s*([-*•–—·]|\(?\d{1,3}[.)]|[a-z][.)])\s")
_ENDED = tuple(".!?:;…。！？\"'”’»)")


def sentences(text: str) -> list[Span]:
    """Spans of the sentences without the whitespace around them, in order, not overlapping, none empty.

    Blank lines, list items and short lines end a sentence even without a full stop.
    """
    found: list[Span] = []
    for start, end in _blocks(text):
        item = _LIST_ITEM.match(text, start, end)
        first = item.end() if item and text[item.end() : end].strip() else start  # the full stop of "1." ends no sentence
        for one in get_sentence_boundaries(LANGUAGE, text[first:end]):
            found += _bounded(text, first + one["start_index"] if one["start_index"] else start, first + one["end_index"])
    return found


def _blocks(text: str) -> Iterator[Span]:
    """Runs of lines that may share a sentence."""
    block: Span | None = None
    for match in _LINE.finditer(text):
        line = match.group()
        if block is not None and _goes_on(text[block[0] : block[1]], text[block[1] : match.start()], line):
            block = block[0], match.end()
        else:
            if block is not None:
                yield block
            block = match.span()
    if block is not None:
        yield block


def _goes_on(before: str, between: str, line: str) -> bool:
    """Whether a line goes on with the sentence before it."""
    if between.replace("\r\n", "\n").count("\n") > 1 or _LIST_ITEM.match(line) or not line.strip():
        return False
    last = re.split(r"[\r\n]", before)[-1].rstrip()
    if not last:
        return False
    return line.lstrip()[0].islower() or (len(last) >= WRAPPED_LINE and not last.endswith(_ENDED))


def _bounded(text: str, start: int, end: int) -> Iterator[Span]:
    """The span without outer whitespace, broken between words where it is too long to be a sentence."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    while end - start > LONGEST:
        cut = max(text.rfind(" ", start, start + LONGEST), text.rfind("\n", start, start + LONGEST))
        cut = cut if cut > start else start + LONGEST
        stripped = len(text[start:cut].rstrip())
        if stripped:
            yield start, start + stripped
        start = cut
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield start, end

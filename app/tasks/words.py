"""A text's words as its reader sees them, with their places, and how strongly neighbours are parted."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

Span = tuple[int, int]
LETTER, IDEOGRAPH, FLAG = "letter", "ideograph", "flag"
ZERO_WIDTH_JOINER = "\u200d"
_APOSTROPHES = "'’"
_SENTENCE_ENDS = ".!?…。！？"
_CLAUSE_ENDS = ',;:–—()[]"“”、，；：'


def words(text: str) -> list[Span]:
    """Spans of the words, in order and without whitespace.

    A run of letters and digits is a word, apostrophes within it included; so is an ideograph, and a run of one sign.
    Characters that a reader sees as one, such as a letter with its accent or a joined emoji, are never parted.
    """
    spans: list[Span] = []
    kind = ""
    for place, character in enumerate(text):
        if character.isspace():
            kind = ""
            continue
        if not kind or not continues(text[place - 1], character):
            before, kind = kind, _kind(text, place, kind)
            if kind != before or kind == IDEOGRAPH:
                spans.append((place, place + 1))
                continue
        spans[-1] = spans[-1][0], place + 1
    return spans


def continues(before: str, character: str) -> bool:
    """Whether a character belongs to the one before it: combining marks, variation selectors, joined emoji."""
    joined = ZERO_WIDTH_JOINER in (before, character)
    return joined or unicodedata.category(character).startswith("M") or "\U0001f3fb" <= character <= "\U0001f3ff"


def gap(text: str, span: Span, following: Span) -> int:
    """How strongly a word is parted from the next: 0 within a clause, 1 between clauses, 2 between sentences."""
    last, between = text[span[1] - 1], text[span[1] : following[0]]
    if "\n" in between or "\r" in between or (last in _SENTENCE_ENDS and (between or is_ideograph(text[following[0]]))):
        return 2
    return int(last in _CLAUSE_ENDS)


def with_tokens(spans: Sequence[Span], offsets: Sequence[tuple[int, Span]]) -> list[tuple[Span, list[int]]]:
    """Words with the positions of their tokens; words that share a token are one, those without any are left out.

    Args:
        spans: of the words, in order.
        offsets: position and character span of each token of the text, in order.
    """
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    # the words that a token covers: from the first that ends after its start to the last that starts before its end
    covered = [(where, bisect_right(ends, start), bisect_left(starts, end) - 1) for where, (start, end) in offsets]
    spans_with_tokens: list[tuple[Span, list[int]]] = []
    last = -1
    for position, first, final in covered:
        if first > final:  # nothing but whitespace
            continue
        if spans_with_tokens and first <= last:
            last = max(last, final)
            (start, _), positions = spans_with_tokens[-1]
            spans_with_tokens[-1] = (start, ends[last]), [*positions, position]
        else:
            last = final
            spans_with_tokens.append(((starts[first], ends[last]), [position]))
    return spans_with_tokens


def _kind(text: str, place: int, before: str) -> str:
    """What a character is: words are runs of the same kind, of ideographs one by one."""
    character = text[place]
    if is_ideograph(character):
        return IDEOGRAPH
    if character.isalnum() or (before == LETTER and character in _APOSTROPHES and text[place + 1 : place + 2].isalnum()):
        return LETTER
    return FLAG if "\U0001f1e6" <= character <= "\U0001f1ff" else character


def is_ideograph(character: str) -> bool:
    return "\u3040" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or "\U00020000" <= character <= "\U0003ffff"

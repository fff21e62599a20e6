"""The one door to `sentencex`: a text's sentences with their character offsets, whatever the text looks like.

`sentencex` splits prose. What is added here: lines, corrections of each language's abbreviations (`sentence_tables`), and a
time that grows with the text's length and no more, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sentencex import get_sentence_boundaries

from app.tasks.sentence_tables import TABLES, Table

Span = tuple[int, int]
LANGUAGE = "en"
"""Of a text where nobody says; full stops of other scripts are known all the same."""
LANGUAGE_CODE = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$"
"""What a language is named by (BCP 47)."""
WRAPPED_LINE = 60
"""A line at least so long that ends within a sentence was wrapped; a shorter one is a heading or a list item."""
LONGEST = 800
"""Characters of the longest sentence; what has none of a sentence's marks is broken between words."""
READ_AT_ONCE = 3000
"""Characters that `sentencex` is given: the time it takes grows with their square where quotation marks are not closed."""
LOOK = 40
"""Characters before and after a mark that decide about it."""
_ENTRIES = {code: table.entries for code, table in TABLES.items()}
_LINE = re.compile(r"[^\r\n]+")
_LIST_ITEM = re.compile(r"\s*([-*•–—·]|\(?\d{1,3}[.)]|[a-z][.)])\s")
_ENDED = tuple(".!?:;…。！？\"'”’»)")
_MARK = re.compile(r"([.…])([\"”’»)\]]*)\s+(?=\S)")
"""A mark after which `sentencex` may have been wrong, with what closes behind it."""
_DROW = re.compile(r"[^\s\"'“”„«»‘’‚()\[\]{}—–,;:/]+")
"""The last word of a text that is read backwards."""
_AFTER = re.compile(
    r"[\"'“”„«»‘’‚(\[*_—–-]*(?P<inverted>[¿¡])?"
    r"(?:(?:(?:[A-Z]{1,3})?[$€£¥₹]|[~≈<>≤≥=±+−§#])\s?(?=[.~]?\d)[.~]?)?"  # what stands before a number, as in `approx. US$5`
    r"(?P<word>[^\W\d_]+['’]?|\d)?(?P<dot>\.)?"
)
_ROMAN = re.compile(r"[IVXLC]+")
_INITIALS = re.compile(r"[^\W\d_a-zß-ÿ](\.-?[^\W\d_a-zß-ÿ])*")
_DETERMINED = re.compile(
    r"(?:^|\W)(?:der|die|das|de[mns]|a[bm]|im|zu[mr]|vom|beim|ins|ans|bis|und|oder|jede\w?|diese\w?|jene\w?"
    r"|(?:[mds]?ein|kein|ihr|unser|eue?r)\w{0,2})\s+$",
    re.IGNORECASE,
)
"""What stands before an ordinal number in German, and hardly before another."""
_PREVIOUS = re.compile(r"([^\W\d_][\w.-]*)\.\s+$")
_LOWER_WORD = re.compile(r"\b[a-z]+\s+$")
_SENTENCE_ENDS = (".", "!", "?", "…")
_HAN_BRACKETS = re.compile(r"(?:^|(?<=[。！？]))（[^（）]*[。！？]）")
_SAID = re.compile(r"[」』](?=と|って|など)")
"""Japanese goes on so after what somebody said."""
_HAN_ELLIPSIS = re.compile(r"……(?=[^\s」』”’）】》。！？，、])")


def sentences(text: str, language: str = LANGUAGE) -> list[Span]:
    """Spans of the sentences without the whitespace around them, in order, not overlapping, none empty.

    Blank lines, list items and short lines end a sentence even without a full stop.

    Args:
        language: its code, as `de` or `pt-BR`. English, German, French and Spanish have tables of corrections, Chinese and
            Japanese rules of their own; others are split as `sentencex` does: what that does not know, by English rules.
    """
    code = language.partition("-")[0].lower()
    spans: list[Span] = []
    for start, end in _blocks(text):
        item = _LIST_ITEM.match(text, start, end)
        first = item.end() if item and text[item.end() : end].strip() else start  # the full stop of "1." ends no sentence
        begin = start
        for begin_next in (*_starts(text[first:end], code), end - first):
            spans += _bounded(text, begin, first + begin_next)
            begin = first + begin_next
    return spans


def _blocks(text: str) -> Iterator[Span]:
    """Runs of lines that may share a sentence."""
    block: Span | None = None
    last = ""
    for match in _LINE.finditer(text):
        line = match.group()
        if block is not None and _goes_on(last, text[block[1] : match.start()], line):
            block = block[0], match.end()
        else:
            if block is not None:
                yield block
            block = match.span()
        last = line
    if block is not None:
        yield block


def _goes_on(last: str, between: str, line: str) -> bool:
    """Whether a line goes on with the sentence of the last one."""
    if between.replace("\r\n", "\n").count("\n") > 1 or _LIST_ITEM.match(line) or not line.strip():
        return False
    last = last.rstrip()
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
        stop = max(text.rfind(" ", start, start + LONGEST), text.rfind("\n", start, start + LONGEST))
        stop = stop if stop > start else start + LONGEST
        stripped = len(text[start:stop].rstrip())
        if stripped:
            yield start, start + stripped
        start = stop
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield start, end


def _starts(text: str, code: str) -> list[int]:
    """Where the sentences after the first one begin, in order."""
    starts = set(_library_starts(text, code))
    if code in TABLES:
        marks = {match.end(): match for match in _MARK.finditer(text)}
        for start in starts | marks.keys():
            is_start = _is_start(text, start, marks.get(start), code)
            if is_start is not None:
                (starts.add if is_start else starts.discard)(start)
    elif code in ("zh", "ja"):
        starts |= {match.end() for match in _HAN_BRACKETS.finditer(text)}
        starts |= {match.end() for match in _HAN_ELLIPSIS.finditer(text)}
        starts -= {match.end() for match in _SAID.finditer(text)}
    return sorted(starts)


def _library_starts(text: str, code: str) -> Iterator[int]:
    """Where `sentencex` begins sentences. It is given a long text piece by piece, each from the beginning of a sentence."""
    begin = 0
    while begin < len(text):
        piece = text[begin : begin + READ_AT_ONCE]
        found = [boundary["start_index"] for boundary in get_sentence_boundaries(code, piece) if boundary["start_index"]]
        is_last = begin + len(piece) == len(text)
        yield from (begin + start for start in found)
        if is_last:
            return
        begin += found[-1] if found else len(piece)  # what follows the last beginning may go on behind the piece


def _is_start(text: str, start: int, mark: re.Match[str] | None, code: str) -> bool | None:
    """Whether a sentence begins here; None: as `sentencex` says."""
    after = _AFTER.match(text, start, start + LOOK)
    word = after["word"] if after else None
    if mark is None:
        return _is_start_without_blank(text, start, word)
    before = text[max(0, mark.start() - LOOK) : mark.start()]
    if mark[1] == "…":
        return True if not mark[2] and word and word[0].isupper() else None
    if ")" in mark[2]:
        return True if word and word[0].isupper() and _is_sentence_in_brackets(before) else None
    word_before = _DROW.match(before[::-1])
    if mark[2] and word_before and after and (after["word"] or "").replace("’", "'") in TABLES[code].starters:
        last_word = word_before[0][::-1].lower()  # by somebody, unless an abbreviation was quoted
        return True if last_word in TABLES[code].words or last_word not in _ENTRIES[code] else None
    if mark[2] or word_before is None or after is None or not (word or after["inverted"]):
        return None
    last, entries = word_before[0][::-1], _ENTRIES[code]
    if last in entries or last.lower() in entries or last.isdecimal() or _INITIALS.fullmatch(last):
        return _after_word(last, before[: len(before) - len(last)], after, TABLES[code])
    return None


def _is_start_without_blank(text: str, start: int, word: str | None) -> bool | None:
    """As in `ASP.NET`, `J.-C.`, `n.º`, or `Really? — asked he`."""
    here, before = text[start], text[start - 1]
    if before == "." and (here in "-ºª°" or text[start - 2 : start + 2].replace(".", "").isupper()):
        return False
    if before.isspace() and here in "—–-" and word and word[0].islower():
        return False
    return None


def _is_sentence_in_brackets(before: str) -> bool:
    """Whether what is closed after this was opened at the beginning of a sentence."""
    opened = before.rfind("(")
    return opened >= 0 and before[:opened].rstrip().endswith(_SENTENCE_ENDS)


def _after_word(word: str, before: str, after: re.Match[str], table: Table) -> bool | None:
    """Whether a sentence begins after this word's full stop."""
    lower, follower = word.lower(), after["word"] or ""
    is_capital = follower[:1].isupper()
    pairs = tuple(_pairs(word, before, after)) if table.joining_pairs or table.title_pairs else ()
    if word in table.titles or lower in table.titles or not table.title_pairs.isdisjoint(pairs):
        return False
    is_word = _is_ordinary(word, before, follower, table)
    if (word in table.numbered or lower in table.numbered) and _is_numbered(
        follower, is_word, may_be_lettered=word[0].isupper() or lower not in table.words
    ):
        return False
    is_starter = bool(after["inverted"]) or (not after["dot"] and follower.replace("’", "'") in table.starters)
    if word in table.joining or not table.joining_pairs.isdisjoint(pairs):
        return is_starter
    if lower in table.ending or is_word:
        return True if is_capital or after["inverted"] or (is_word and follower.isdecimal()) else None
    if table.has_ordinals and is_capital and _is_ordinal(word, before, after, table):
        return is_starter
    if _INITIALS.fullmatch(word) and (is_starter or "-" in word):
        return is_starter
    return None


def _is_ordinal(word: str, before: str, after: re.Match[str], table: Table) -> bool:
    """Whether this is the third and not three: `am 3. Advent`, `Ludwig XIV.`, but `er ist 3. Anna auch`."""
    if not word.isdecimal():
        return _ROMAN.fullmatch(word) is not None
    is_date = after["dot"] is not None and after["word"] in table.joining
    return len(word) <= 2 and (is_date or not before.rstrip() or _DETERMINED.search(before) is not None)


def _pairs(word: str, before: str, after: re.Match[str]) -> Iterator[str]:
    """The word with the abbreviation before it, and with that after it."""
    earlier = _PREVIOUS.search(before)
    if earlier:
        yield f"{earlier[1]}. {word}".lower()
    if after["dot"] and after["word"]:
        yield f"{word}. {after['word']}".lower()


def _is_ordinary(word: str, before: str, follower: str, table: Table) -> bool:
    """Whether this is a word and no abbreviation."""
    if word in table.words:
        return len(word) > 1 or bool(_LOWER_WORD.search(before))
    first = before.rstrip()
    if word.lower() not in table.words or (first and not first.endswith(_SENTENCE_ENDS)):
        return False
    return word.lower() not in table.numbered or len(follower) > 1 or follower in table.starters  # "No. I", but "Fig. B"


def _is_numbered(follower: str, is_word: bool, may_be_lettered: bool) -> bool:
    """Whether a number or a letter follows, or the sentence goes on."""
    if follower.isdecimal() or is_word:
        return follower.isdecimal()
    return follower[:1].islower() or (may_be_lettered and bool(_ROMAN.fullmatch(follower) or len(follower) == 1))

"""Where an answer may begin and end: at the words of the text itself, whatever pieces a tokenizer makes of them."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from functools import cache
from itertools import pairwise
from operator import itemgetter

from app.tasks.tokenizer import trimmed

Span = tuple[int, int]
UNSPACED = (
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc"  # Hangul
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3200-\u33ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001b16f"  # kana and Bopomofo, behind Han
    "\u0e00-\u0e4f\u0e80-\u0ecf\u0eda-\u0eff\u1780-\u17df"  # Thai, Lao and Khmer without their digits
    "\u1000-\u103f\u104a-\u108f\u109a-\u109f\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Myanmar without its digits
)
"""Letters of scripts that are written without blanks between words, and of Korean, whose blanks part more than words."""
JOINERS = "-'’.,:/@_\u2010\u2011"
"""One of them between two letters or digits parts no words: `2,469.5`, `O'Neil`, `14:30`, `Jean-Luc`, `ann@example.org`."""
LONGEST_WORD = 1000
"""Characters; of longer ones, the rest may be missing. It bounds what a text without blanks costs."""
_INVISIBLE = "\u00ad\u200c\u200d\u2060\ufeff"
_STACKING = "\u17d2\u1039"
"""Signs that put the next consonant of Khmer and Myanmar below the one before."""
_LEADING, _SYLLABLES, _TRAILING = "\u1100-\u115f\ua960-\ua97c", "\uac00-\ud7a3", "\u1160-\u11ff\ud7b0-\ud7fb"
_FLAGS = "\U0001f1e6-\U0001f1ff"


class WordBoundaries:
    """The words and characters of one text, found where they are asked for and then kept."""

    def __init__(self, text: str, whole_words: bool = True) -> None:
        """
        Args:
            whole_words: widen to whole words; else only to whole characters as a reader sees them.
        """
        self._text = text
        self._pattern = _patterns()[whole_words]
        self._units: dict[Span, list[Span]] = {}

    def widened(self, span: Span) -> Span:
        """The span without the blanks at its ends, and with the rest of the words that it begins and ends in."""
        start, end = trimmed(self._text, span)
        return (self._unit(start)[0], self._unit(end - 1)[1]) if start < end else (start, end)

    def _unit(self, place: int) -> Span:
        """The word or the character that a place lies in."""
        # texts without blanks are searched in parts of three times the limit, the same for all places in the middle third
        low = max(0, (place // LONGEST_WORD - 1) * LONGEST_WORD)
        high = min(len(self._text), (place // LONGEST_WORD + 2) * LONGEST_WORD)
        before, behind = self._text.rfind(" ", low, place), self._text.find(" ", place, high)
        part = (low if before < 0 else before + 1), (high if behind < 0 else behind)
        if part not in self._units:
            self._units[part] = [match.span() for match in self._pattern.finditer(self._text, *part)]
        units = self._units[part]
        index = bisect_right(units, place, key=itemgetter(0)) - 1
        return units[index] if index >= 0 and place < units[index][1] else (place, place + 1)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds characters of several code points, and what finds words and such characters."""
    marks = _marks()
    letter, follower = rf"[^\W_{UNSPACED}]", f"[{marks}{_INVISIBLE}]"
    run = f"{letter}++(?:{follower}++{letter}*+)*+"
    word = f"{run}(?:[{JOINERS}]{run})*+"
    # variation selectors and the like are marks; the last four are the colours of emoji, tags of flags, and vowels or marks of
    # sound that Unicode calls letters
    extending = rf"[{marks}\u200c\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\u0e33\u0eb3\uff9e\uff9f]"
    more = rf"(?:\u200d(?:(?!\w)\S)?|[{_STACKING}][{UNSPACED}]?|{extending})"  # the first joins emoji, and no words
    syllable = f"[{_LEADING}]++[{_SYLLABLES}]?[{_TRAILING}]*+|[{_SYLLABLES}]?[{_TRAILING}]++"
    character = rf"(?:[{_FLAGS}]{{2}}|{syllable}){more}*+|\S{more}++"
    return re.compile(character), re.compile(f"{word}|{character}")


def _marks() -> str:
    """All combining marks, as ranges in a set of a regular expression."""
    places = (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))  # where Unicode has any
    marks = [place for place in places if unicodedata.category(chr(place))[0] == "M"]
    firsts = [place for before, place in pairwise([-1, *marks]) if place != before + 1]
    lasts = [place for place, after in pairwise([*marks, -1]) if after != place + 1]
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(firsts, lasts, strict=True))

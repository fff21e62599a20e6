"""Fields of a task's items, and the columns of data files that hold them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

_BRACKETS = re.compile(r"\([^)]*\)|\[[^\]]*\]|\{[^}]*\}")
"""What exports put behind a name: `Bewertung (1-5)`."""
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NO_FIELD = {
    "id", "ids", "nr", "no", "num", "number", "nummer", "numero", "index", "idx", "date", "datum", "fecha", "data", "time",
    "zeit", "timestamp", "count", "anzahl", "length", "len", "laenge", "lange", "url", "uri", "link", "lang", "language",
    "sprache", "langue", "size", "email", "mail", "author", "autor", "user",
}  # fmt: skip
"""Words of columns that tell something about a text or label, such as `comment_id` or `text length`."""
SHORTEST_SUFFIX = 6
"""Shorter names do not stand for compounds that end with them: `Fehlerbeschreibung` is a description, `context` no text."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of an item, such as the context of a question.

    Case, accents, spaces, punctuation and what stands in brackets do not count in the name of a column.
    """

    columns: tuple[str, ...]
    """What a column that holds it is called, the likeliest name first."""
    required: bool = True
    description: str = ""
    partners: tuple[str, ...] = ()
    """For a second text: the column of the first field beside each of `columns`, as `sentence1` beside `sentence2`."""
    possible: tuple[tuple[str, ...], ...] = ()
    """Groups of names that may mean it, the likelier group first: a name counts where it is the only one of its group."""
    token_columns: tuple[str, ...] = ()
    """What a column is called that holds a text as a list of its tokens, which are then joined by blanks."""

    def find(self, present: Iterable[str]) -> str | None:
        """The column whose name says that it holds the field, spelled as in the file; None where there is none."""
        spellings: dict[str, str] = {}
        for name in present:
            spellings.setdefault(column_key(name), name)
            spellings[name] = name  # the exact name before one that is only written alike
        for name in (*self.columns, *self.token_columns):
            for key in (name, *_keys(name)):
                if key in spellings:
                    return spellings[key]
        return None

    def candidates(self, present: Sequence[str]) -> list[str]:
        """Columns that may hold the field: one where the names say which, several where they leave it open, or none."""
        certain = self.find(present)
        if certain is not None:
            return [certain]
        first, *others = self.possible or ((),)
        tiers = [_named(first, present), self._compounds(present, first)]  # `Customer Comment` before a mere `subject`
        tiers += [_named(group, present) for group in others]
        return next((tier for tier in tiers if tier), [])

    def _compounds(self, present: Sequence[str], possible: Sequence[str]) -> list[str]:
        """Columns of several words, one of which is a name of the field; those that end with it before others."""
        keys = {key for name in (*self.columns, *possible) for key in _keys(name)}
        described = {name: words for name in present if not _NO_FIELD.intersection(words := column_words(name))}
        ending = [name for name, words in described.items() if words and (words[-1] in keys or _ends_with(name, keys))]
        return ending or [name for name, words in described.items() if keys.intersection(words)]


def column_key(name: str) -> str:
    """What two names of columns have in common that a person takes for the same: `Star Rating (1-5)` and `star_rating`."""
    without = _BRACKETS.sub(" ", name)
    key = "".join(character for character in _plain(without) if character.isalnum())
    return key or name.strip().casefold()


def column_words(name: str) -> list[str]:
    """The words of a name, `reviewText` and `review_text` alike, as `column_key` spells them."""
    parts = re.split(r"[\W_]+", _plain(_CAMEL.sub(" ", _BRACKETS.sub(" ", name))))
    return [part for part in parts if part]


def same_column(name: str, present: Iterable[str]) -> str | None:
    """The column that a person means by this name, which may be written otherwise; None where none or several are."""
    present = list(present)
    if name in present:
        return name
    alike = [column for column in present if column_key(column) == column_key(name)]
    return alike[0] if len(alike) == 1 else None


def match_columns(
    fields: Mapping[str, FieldSpec], present: Iterable[str], overrides: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Which column holds which field; fields that no column holds, or that several may hold, are left out.

    Args:
        overrides: columns that a person named; they count whether they are present or not.
    """
    present = list(present)
    overrides = {name: same_column(column, present) or column for name, column in (overrides or {}).items() if column}
    matches = {name: column for name, field in fields.items() if (column := field.find(present)) is not None} | overrides
    first = next(iter(fields), "")
    for name, field in fields.items():
        pairs = zip(field.columns, field.partners, strict=False)
        whole = [(column, partner) for column, partner in pairs if {column, partner} <= set(present)]
        if whole and not {name, first} & overrides.keys():  # `title, sentence1, sentence2` is a pair, and `title` no part of it
            matches |= {name: whole[0][0], first: whole[0][1]}
    for name, field in fields.items():
        candidates = field.candidates([column for column in present if column not in matches.values()])
        if name not in matches and len(candidates) == 1:
            matches[name] = candidates[0]
    return matches


def _plain(text: str) -> str:
    """In lower case, without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


@cache
def _keys(name: str) -> tuple[str, ...]:
    """The key of a name, and that of its other spelling where an umlaut is written as two letters."""
    spelled_out = name.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")
    return tuple(dict.fromkeys((column_key(name), column_key(spelled_out))))


def _named(names: Iterable[str], present: Sequence[str]) -> list[str]:
    keys = {key for name in names for key in _keys(name)}
    return [name for name in present if column_key(name) in keys]


def _ends_with(name: str, keys: Iterable[str]) -> bool:
    key = column_key(name)
    return any(len(suffix) >= SHORTEST_SUFFIX and key.endswith(suffix) for suffix in keys)

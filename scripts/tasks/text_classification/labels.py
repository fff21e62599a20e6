"""What the labels of a column are: one a text or several, what stands for none, and which spellings are the same."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core.errors import InvalidSettings
from app.data.cells import is_missing, literal, plain, spelled
from app.tasks.labels import clean_label
from scripts.training.data_checks import label_key, quoted
from scripts.training.recipe import Recipe

SEPARATORS = (",", ";", "|")
SEPARATOR = "|"
"""Between several labels of a cell, where none is named."""
MIN_IDENTIFIERS = 20
"""Of fewer rows with a label each, the data may just be small."""
MULTI = "multi_label_classification"
NO_LABEL = "-1"
DOUBTFUL = ("None", "none", "null", "NULL", "NA", "N/A", "#N/A", "n/a", "-", "?")
"""Words that may be a label, and may say that there is none."""
_WHOLE = re.compile(r"(-?[0-9]{1,9})(?:\.0+)?")
"""A whole number, also as pandas writes it into a csv file where its column has a gap."""


@dataclass(frozen=True)
class LabelKind:
    """How a cell of the label's column is read."""

    multi_label: bool = False
    separator: str = SEPARATOR
    is_separated: bool = False
    """Whether a cell holds several with the separator between them, and not as a list."""
    minus_one_is_none: bool = False
    as_numbers: bool = False
    """Every label is a whole number, some as `1.0`, which is 1."""
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Labels that are another one's, which stands for them."""
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, recipe: Recipe, cells: Sequence[Any]) -> LabelKind:
        """
        Raises:
            InvalidSettings: the labels can be meant in two ways, and which options there are.
        """
        cells = [plain(cell) for cell in cells]
        if recipe.label_separator and recipe.problem_type not in ("auto", MULTI):
            raise InvalidSettings(
                f"label_separator ({recipe.label_separator!r}) is for several labels a text, and problem_type is"
                f" {recipe.problem_type}; leave one of them out"
            )
        multi = recipe.problem_type == MULTI or bool(recipe.label_separator)
        if recipe.problem_type == "auto" and not multi:
            multi = _has_lists(cells)
        separator = recipe.label_separator or SEPARATOR
        raw = [text for cell in cells for text in _texts(cell, multi, separator)]
        as_numbers = _are_decimals(raw)
        if as_numbers:
            raw = [whole_number(text) for text in raw]
        counts = Counter(clean_label(text) for text in raw)
        if recipe.problem_type != "single_label_classification":
            texts = [text for cell in cells if _list_in(cell) is None for text in _texts(cell, multi, separator)]
            _refuse_joined({clean_label(text) for text in texts}, multi, separator)
        if multi:
            _refuse_indicators(cells)
        is_none = recipe.minus_one == "no-label" and _stands_for_none(counts)
        spellings = _merged(counts) if recipe.merge_labels else {}
        notes = [*_invisible(raw), *_alike(counts, spellings), *_doubtful(counts), *_perhaps_several(counts, multi)]
        num_separated = sum(isinstance(cell, str) and _list_in(cell) is None and separator in cell for cell in cells)
        if recipe.label_separator:
            notes.insert(
                0, f"several labels a text, with {separator!r} between them (--label-separator), in {num_separated:,} cells"
            )
        if as_numbers:
            notes.insert(0, f"labels written as decimals are whole numbers: {quoted(map(repr, sorted(counts)))}")
        return cls(multi, separator, bool(multi and num_separated), is_none, as_numbers, spellings, notes)

    def read(self, cell: Any) -> Any:
        """One label, or a tuple of them.

        Raises:
            ValueError: there is none, in words that go before "in column …".
        """
        cell = plain(cell)
        if isinstance(spelled(cell), dict):
            raise ValueError("an object where a label is meant,")
        if self.multi_label:
            return self._several(cell)
        if is_missing(cell):
            raise ValueError("no label")
        values = _list_in(cell)
        if values is not None and len(values) != 1:
            raise ValueError("a list of labels where one is meant, which --problem-type multi_label_classification learns,")
        return self._label(values[0] if values is not None else cell)

    def _several(self, cell: Any) -> tuple[str, ...]:
        values = _list_in(cell)
        if values is None:  # an empty cell of a csv file is a list of none
            if not isinstance(cell, str) or (cell.strip() and is_missing(cell)):
                raise ValueError("no list of labels")
            values = [part for part in cell.split(self.separator) if clean_label(part)]
        return tuple(sorted({self._label(match) for match in values if not (isinstance(match, str) and not match.strip())}))

    def _label(self, value: Any) -> str:
        if isinstance(value, list | dict):
            raise ValueError("a list or an object where a label is meant,")
        if is_missing(value):
            raise ValueError("no label")
        label = clean_label(_text(value))
        if not label:
            raise ValueError("no label")
        if self.as_numbers:
            label = whole_number(label)
        if label == NO_LABEL and self.minus_one_is_none:
            raise ValueError(f"{NO_LABEL}, which beside 0, 1, … stands for no label (--minus-one class learns it as one),")
        return self.spellings.get(label, label)


def _stands_for_none(labels: Collection[str]) -> bool:
    """Whether the labels are -1 and all whole numbers from 0 on, of which there are several."""
    numbers = {int(label) for label in labels if re.fullmatch(r"-?[0-9]{1,9}", label)} if NO_LABEL in labels else set()
    # -1 and 0, or -1 and 1, are two classes
    return len(numbers) == len(labels) and numbers == set(range(-1, len(numbers) - 1)) and len(numbers) > 2


def _has_lists(cells: Sequence[Any]) -> bool:
    return any(isinstance(cell, list) or len(_list_in(cell) or ()) > 1 for cell in cells) or all_are_lists(cells)


def all_are_lists(cells: Sequence[Any]) -> bool:
    """Whether every cell that holds something spells a list, be it of one label."""
    present = [cell for cell in cells if not is_missing(cell)]
    return bool(present) and all(_list_in(cell) is not None for cell in present)


def _list_in(cell: Any) -> list[Any] | None:
    if isinstance(cell, list):
        return cell
    value = literal(cell) if isinstance(cell, str) else None
    return value if isinstance(value, list) and not any(isinstance(match, list | dict) for match in value) else None


def _texts(cell: Any, multi: bool, separator: str) -> list[str]:
    values = _list_in(cell)
    if values is None:
        if is_missing(cell) or isinstance(cell, dict):
            return []
        values = str(_text(cell)).split(separator) if multi else [cell]
    return [_text(match) for match in values if not is_missing(match) and clean_label(_text(match))]


def _text(value: Any) -> str:
    """A whole number as such: in a column with a gap pandas keeps 1 as 1.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _are_decimals(labels: Sequence[str]) -> bool:
    return any("." in label for label in labels) and all(_WHOLE.fullmatch(clean_label(label)) for label in labels)


def whole_number(label: str) -> str:
    """The number without what stands behind its point; any other label as it is."""
    match = _WHOLE.fullmatch(clean_label(label))
    return str(int(match[1])) if match else label


def _refuse_joined(labels: Collection[str], multi: bool, separator: str) -> None:
    """Labels whose parts come again in others are several in one cell."""
    for sign in SEPARATORS:
        if multi and sign == separator:
            continue
        parts = {label: [clean_label(part) for part in label.split(sign)] for label in labels if sign in label}
        occurrences = Counter(part for pieces in parts.values() for part in set(pieces))
        again = [
            label
            for label, pieces in parts.items()
            if len(set(pieces)) > 1 and all(part and (occurrences[part] > 1 or part in labels) for part in pieces)
        ]
        if again:
            again.sort()  # the same is named each time
            raise InvalidSettings(
                f"the label {again[0]!r} looks like {len(parts[again[0]])} labels in one cell, for its parts stand in other"
                f" cells too; say --label-separator {sign!r} to learn several labels a text, or, where it is one,"
                " --problem-type single_label_classification"
                if not multi
                else f"the label {again[0]!r} looks like {len(parts[again[0]])} labels, for its parts stand in other cells too;"
                f" say --label-separator {sign!r}, or make it a JSON list where it is one label"
            )


def _refuse_indicators(cells: Sequence[Any]) -> None:
    rows = [values for cell in cells if (values := _list_in(cell)) is not None]
    width = len(rows[0]) if rows else 0
    is_matrix = width > 1 and all(len(row) == width and all(entry in (0, 1) for entry in row) for row in rows)
    if is_matrix and any(len(set(map(str, row))) < width for row in rows):
        raise InvalidSettings(
            f"the labels are rows of {width} zeros and ones, which do not say what they are called; give each row the names of"
            " its labels as a list"
        )


def refuse_identifiers(column: str, cells: Sequence[Any], multi: bool) -> None:
    """
    Raises:
        InvalidSettings: no label comes twice, so that nothing can be learnt.
    """
    labels = [str(cell).strip() for cell in map(plain, cells) if not is_missing(cell) and not isinstance(cell, list | dict)]
    if not multi and len(labels) >= MIN_IDENTIFIERS and len(set(labels)) == len(labels):
        numbers = " where it is a number, --task text-regression learns it as such;" if all(map(_is_number, labels)) else ""
        raise InvalidSettings(
            f"each of the {len(labels):,} rows has a label of its own in column {column!r}, as an ID or a date has, and a label"
            f" that never comes again cannot be learnt;{numbers} say --label-column NAME where another column holds the label"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _merged(counts: Mapping[str, int]) -> dict[str, str]:
    """Labels that look the same or differ in case, `_`, `-` and spaces alone, with the spelling that most rows have."""
    groups = _same_but_for_case(counts, label_key)
    return {label: max(group, key=lambda entry: counts[entry]) for group in groups for label in group}


def _same_but_for_case(counts: Mapping[str, int], key: Callable[[str], str] = str.casefold) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups[key(label)].append(label)
    return [sorted(group, key=lambda entry: -counts[entry]) for group in groups.values() if len(group) > 1]


def _invisible(raw: Sequence[str]) -> Iterator[str]:
    altered = Counter(clean_label(text) for text in raw if text.strip(" \t\r\n") != clean_label(text))
    if altered:
        listing = quoted(repr(label) for label in altered)
        yield (
            f"{sum(altered.values()):,} labels are written with invisible characters, other blanks or decomposed letters; they"
            f" count as what they look like: {listing}"
        )


def _alike(counts: Mapping[str, int], spellings: Mapping[str, str]) -> Iterator[str]:
    groups = _same_but_for_case(counts, label_key if spellings else str.casefold)
    listing = quoted(" and ".join(f"{label!r} ({counts[label]:,})" for label in group) for group in groups)
    if groups and spellings:
        yield f"labels that differ in case, signs or spaces alone are merged, the first of each stays: {listing}"
    elif groups:
        yield f"labels differ in case alone and are learnt as different ones: {listing}; --merge-labels makes one of each"


def _doubtful(counts: Mapping[str, int]) -> Iterator[str]:
    doubtful = [label for label in DOUBTFUL if label in counts]
    if doubtful:
        listing = quoted(f"{label!r} ({counts[label]:,} rows)" for label in doubtful)
        yield f"{listing} is learnt as a label; leave such rows out where it means that there is none"


def _perhaps_several(counts: Mapping[str, int], multi: bool) -> Iterator[str]:
    joined = [label for label in counts if any(sign in label for sign in SEPARATORS)]
    if joined and not multi:
        yield (
            f"each of {quoted(map(repr, joined))} is learnt as one label; for several in a cell say --label-separator and what"
            " stands between them"
        )

"""Pairs of a source and a target from records: which columns hold them, and in which languages they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec, same_column
from app.data import Record
from app.data.cells import plain
from app.tasks.base import refuse_text
from app.tasks.generation import SourceText
from app.tasks.translation.languages import base_of, name_of
from app.tasks.translation.protocols import LANGUAGE_COLUMNS
from scripts.training.columns import LABEL, Columns, TableSample, choose_columns
from scripts.training.data import Broken, Example, first_readable
from scripts.training.recipe import Recipe

OPTIONS = ("--source-column", "--target-column")
TRANSLATIONS = "translation"
"""A column of the Hub's data sets: an object with a text for each language."""
_CODE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z]{2,4})?")


@dataclass(frozen=True, slots=True)
class PairText(SourceText):
    """A source of another pair of languages than the one that is trained, with its codes."""

    source: str
    target: str


@dataclass(frozen=True)
class SourceTargetColumns:
    """The columns of source and target."""

    columns: Columns
    languages: tuple[str, str] = ("", "")
    """Codes of what is read and written; empty where the data does not say."""
    keeps_blanks: bool = False
    """Whether those at the ends of a target are learnt."""
    corrections: Collection[str] = ()
    """Sources whose rows say themselves in which languages they are, where their model knows several."""

    @property
    def names(self) -> Mapping[str, str]:
        """Of the first source."""
        return self.columns.matches

    def parse(self, record: Record, source: str, make_item: Callable[[str], Any]) -> Example | Broken:
        """A record as an example, whose target is a text; or why it is none."""
        if record.broken:
            return Broken(record.where, record.broken)
        cells = flat(record).columns
        texts = []
        for field, name in ((field, name) for field, name in self.columns.of(source).items() if field in ("text", LABEL)):
            value = plain(cells.get(name))
            if value is None:
                return Broken(record.where, f"missing column {name!r}")
            if not isinstance(value, str):
                return Broken(record.where, f"{name!r} is not text")
            if (refusal := refuse_text(value, field)) is not None:
                return Broken(record.where, f"{name!r} {refusal.reason}")
            texts.append(value)
        read, written = texts
        item, pair = make_item(read), tuple(str(cells.get(name, "")) for name in LANGUAGE_COLUMNS.values())
        if source in self.corrections and all(pair) and [*map(base_of, pair)] != [*map(base_of, self.languages)]:
            item = PairText(read, *pair)
        return Example(item, written if self.keeps_blanks else written.strip(), source, record.where)


def flat(record: Record) -> Record:
    """With a column for each language, where they stand in one column together."""
    together = record.columns.get(TRANSLATIONS)
    if not isinstance(together, Mapping):
        return record
    return replace(record, columns={**{k: v for k, v in record.columns.items() if k != TRANSLATIONS}, **together})


def as_text_and_label(recipe: Recipe) -> Recipe:
    """The recipe with its source as the column of the text, and its target as that of the label.

    Raises:
        InvalidSettings: one of them is named twice.
    """
    for ours, other in (("source_column", "text_column"), ("target_column", "label_column")):
        if getattr(recipe, ours) and getattr(recipe, other):
            raise InvalidSettings(f"{ours} and {other} name the same column here: leave one out")
    return replace(
        recipe,
        text_column=recipe.source_column or recipe.text_column,
        label_column=recipe.target_column or recipe.label_column,
    )


def choose_pairs(
    field: FieldSpec, target: FieldSpec, recipe: Recipe, records: Mapping[str, Sequence[Record]], is_translation: bool = False
) -> SourceTargetColumns:
    """
    Args:
        records: of each source.
        is_translation: whether columns may be named by languages.

    Raises:
        InvalidSettings: the right columns are not obvious, or a named one does not exist.
    """
    first_readable(records)
    recipe = as_text_and_label(recipe)
    expanded = {source: [flat(record) for record in rows] for source, rows in records.items()}
    if is_translation and not (recipe.text_column and recipe.label_column):
        table = TableSample.of(next(rows for rows in expanded.values() if any(not row.broken for row in rows)))
        recipe = _by_languages(recipe, table)
    columns = choose_columns({"text": field}, target, recipe, expanded, "text", OPTIONS)
    if not is_translation:
        return SourceTargetColumns(columns)
    wished = (recipe.source_language, recipe.target_language)
    named = tuple(name if is_language(name) else "" for name in (columns.matches["text"], columns.matches[LABEL]))
    languages = wished[0] or named[0], wished[1] or named[1]
    if languages[0] and languages[0] == languages[1]:
        raise InvalidSettings(f"source and target are both in {name_of(languages[0])} ({languages[0]})")
    return SourceTargetColumns(columns, languages, corrections=recipe.from_feedback)


def language_columns(table: TableSample) -> list[str]:
    """Columns with texts that are named by the code of a language."""
    return [column.name for column in table.columns if is_language(column.name) and not column.refutes("text")]


def is_language(name: str) -> bool:
    """Whether it is the code of a language, as `de`, `pt-BR` or `deu_Latn`."""
    return _CODE.fullmatch(name) is not None and name_of(name) != name


def _by_languages(recipe: Recipe, table: TableSample) -> Recipe:
    """With the columns that are named by languages: those that are asked for, else the only two, in the table's order.

    Raises:
        InvalidSettings: there are more than two, and nobody says which.
    """
    found = language_columns(table)
    source = recipe.text_column or _of_language(recipe.source_language, found)
    target = recipe.label_column or _of_language(recipe.target_language, found)
    rest = [name for name in found if name not in (same_column(source, found), same_column(target, found))]
    missing = (not source) + (not target)
    is_wrong = any(name and same_column(name, table.names) is None for name in (source, target))
    if not found or missing == 0 or is_wrong:  # which names there are is told where columns are chosen
        return replace(recipe, text_column=source, label_column=target)
    if len(rest) > missing:
        listing = ", ".join(repr(name) for name in found)
        raise InvalidSettings(
            f"which languages are read and written? The data has columns for {listing}; say which, for example:"
            f" --source-column {found[0]} --target-column {found[1]}"
        )
    if len(rest) == missing:
        names = iter(rest)
        source, target = source or next(names), target or next(names)
    return replace(recipe, text_column=source, label_column=target)


def _of_language(code: str, columns: Sequence[str]) -> str:
    """The column of a language; empty: there is none, or no language is named."""
    return next((name for name in columns if code and base_of(name) == base_of(code)), "")

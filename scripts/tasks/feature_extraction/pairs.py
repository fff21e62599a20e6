"""What a model of vectors learns from and is judged by: texts that belong together, or pairs with a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec, column_key
from app.data import Record
from app.data.cells import is_missing
from app.tasks.feature_extraction.task import SimilarityItem
from app.tasks.text_classification.spec import FIELDS as TEXTS
from scripts.tasks.text_regression import NUMBER, number, read_number
from scripts.tasks.texts import TextColumns
from scripts.training.columns import LABEL, TableSample, choose_columns
from scripts.training.data import Broken, Example, normalized
from scripts.training.recipe import Recipe

ANCHORS = ("anchor", "query", "question", "source_sentence")
PARTNERS = (
    ("positive", "anchor"),
    *((other, first) for other in ("positive", "answer", "passage", "document") for first in ("query", "question")),
    *zip(TEXTS["text_pair"].columns, TEXTS["text_pair"].partners, strict=True),
    ("text2", "text1"),
    ("sentence_B", "sentence_A"),
)
"""Columns of the second text, each with that of the first beside it."""
FIELDS: Mapping[str, FieldSpec] = {
    "text": FieldSpec((*ANCHORS, *TEXTS["text"].columns), possible=TEXTS["text"].possible),
    "text_pair": FieldSpec(
        tuple(other for other, _ in PARTNERS), required=False, partners=tuple(first for _, first in PARTNERS)
    ),
    "negative": FieldSpec(("negative", "hard_negative"), required=False),
}
PAIR = {name: FIELDS[name] for name in ("text", "text_pair")}
SCORE = replace(NUMBER, possible=(), required=False)
"""How alike the two texts of a row are."""


def looks_like_pairs(table: TableSample) -> bool:
    """A positive beside what it belongs to: names that nothing else has together."""
    names = {column_key(name) for name in table.names}
    return "positive" in names and bool(names & {*ANCHORS, "text", "sentence"})


@dataclass(frozen=True)
class PairColumns:
    """The columns of the texts, and perhaps of a number."""

    texts: TextColumns
    lowest: float = 0.0
    highest: float = 1.0
    """Of the numbers, which become 0 and 1."""

    @classmethod
    def of(cls, recipe: Recipe, records: Mapping[str, Sequence[Record]], is_scaled: bool = True) -> PairColumns:
        """
        Raises:
            InvalidSettings: there is no second text, or all numbers are one.
        """
        columns = choose_columns(FIELDS, SCORE, recipe, records, "number")
        texts = TextColumns(columns, FIELDS, _item)
        for source in records:
            if "text_pair" not in columns.of(source):
                raise InvalidSettings(
                    f"{source} has one text a row, but a model of vectors learns from two that belong together, or from two and"
                    " a number of how alike they are; say --text-pair-column NAME"
                )
        scored = [source for source in records if LABEL in columns.of(source)]
        if not is_scaled or not scored:
            return cls(texts)
        cells = texts.labels({source: records[source] for source in scored})
        numbers = [value for cell in cells if (value := number(cell)) is not None]
        if not numbers:
            raise InvalidSettings(f"no row has a number in column {texts.label!r}; leave the column out, or say --label-column")
        if min(numbers) == max(numbers):
            raise InvalidSettings(
                f"every row has the number {numbers[0]:g}; a model learns how alike texts are from two different ones"
            )
        return cls(texts, min(numbers), max(numbers))

    def __str__(self) -> str:
        if LABEL not in self.texts.columns.matches:
            return f"{self.texts}; texts that belong together"
        return f"{self.texts}; numbers from {self.lowest:g} to {self.highest:g}, scaled to 0 to 1"

    def parse(self, record: Record, source: str) -> Example | Broken:
        """A record with a number as its target; None where the source has none: its texts belong together."""
        columns = self.texts.columns.of(source)
        has_negative = "negative" in columns and not is_missing(record.columns.get(columns["negative"]))
        texts = self.texts if has_negative else replace(self.texts, fields=PAIR)
        return texts.parse(record, source, self._scaled if LABEL in columns else None)

    def _scaled(self, cell: Any) -> float:
        return (read_number(cell) - self.lowest) / (self.highest - self.lowest)


def _item(text: str, *others: str) -> SimilarityItem:
    return SimilarityItem(text, others)


def key_of(text: str) -> str:
    """What texts have in common that differ in case and spaces alone."""
    return normalized((text,))


def group_of(example: Example) -> str:
    """What is held out together: of texts that belong together all rows of a first one; else each row for itself."""
    item: SimilarityItem = example.item
    return key_of(item.source_sentence) if example.target is None else normalized(item)


def text_numbers() -> Callable[[str], int]:
    """Gives each text a number, the same to texts that differ in case and spaces alone."""
    numbers: dict[str, int] = {}
    return lambda text: numbers.setdefault(key_of(text), len(numbers))

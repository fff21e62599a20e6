"""Tasks about a text or a pair of texts, offline: their columns, their head, one row per text."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from app.core.fields import FieldSpec
from app.core.types import Row
from app.data import Record
from app.data.cells import plain
from app.tasks.text_classification.spec import FIELDS
from app.tasks.text_classification.task import MAX_PAIR_CHARACTERS, ClassificationItem
from app.tasks.tokenizer import Tokenizer, encodable
from scripts.tasks.heads import HeadTask, named_head
from scripts.tasks.spec import TrainingRow
from scripts.training.columns import LABEL, Columns, describe
from scripts.training.data import Broken, Example
from scripts.training.evaluation import encode_all

SAMPLE_TEXTS = (
    "This was exactly what I hoped for, thank you.",
    "It broke after two days and nobody answers my messages.",
    "Where can I find the opening hours?",
    "The meeting has been moved to Thursday at noon.",
    "Ünïcödé, 数字 and emoji 🙂 are text too.",
    "no",
)


class TextTraining(HeadTask):
    """What classification and regression of texts share."""

    auto_class = "AutoModelForSequenceClassification"
    heads: tuple[str, ...] = ("ForSequenceClassification",)
    golden_texts = SAMPLE_TEXTS

    def head_config(self, task_options: Mapping[str, Any]) -> dict[str, Any]:
        return named_head(task_options["labels"])

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        task = self.serving_task(tokenizer, task_options)
        # one row each, however long: a later window alone need not say what the whole text is labelled for
        options = replace(self.serving_options(), truncation="truncate")
        encoded = encode_all(task, options, [example.item for example in examples])
        labels = self.row_labels(examples, task_options)
        return [TrainingRow(item.rows[0], label) for item, label in zip(encoded, labels, strict=True)]

    @abstractmethod
    def row_labels(self, examples: Sequence[Example], task_options: Mapping[str, Any]) -> list[Any]:
        """The label of each example, as the head's loss takes it."""

    def labels(self, rows: Sequence[TrainingRow], width: int) -> np.ndarray:
        labels = np.array([row.label for row in rows])
        return labels.astype(np.float32) if labels.dtype == np.float64 else labels

    def crop(self, row: TrainingRow, limit: int, generator: random.Random) -> TrainingRow:
        return TrainingRow(head_and_tail(row.row, limit), row.label)

    def sample_items(self, texts: Sequence[str], sentences: Sequence[str]) -> list[dict[str, Any]]:
        pairs = zip(sentences[:8], sentences[8:16], strict=True)
        return [*({"text": text} for text in texts), *({"text": text, "text_pair": pair} for text, pair in pairs)]


@dataclass(frozen=True)
class TextColumns:
    """Which columns hold the texts of an item, and its label."""

    columns: Columns
    fields: Mapping[str, FieldSpec] = field(default_factory=lambda: FIELDS)
    make_item: Callable[..., Any] = ClassificationItem
    """From the texts, in the order of the fields."""

    def __str__(self) -> str:
        return "; ".join([describe(self.columns.matches), *self.columns.notes])

    @property
    def label(self) -> str:
        """Of the first source."""
        return self.columns.matches[LABEL]

    def labels(self, records: Mapping[str, Sequence[Record]]) -> list[Any]:
        """The cells of the label's column, wherever it is called so."""
        return [
            row.columns.get(self.columns.of(source)[LABEL])
            for source, rows in records.items()
            for row in rows
            if not row.broken
        ]

    def parse(self, record: Record, source: str, read_label: Callable[[Any], Any] | None) -> Example | Broken:
        """A record as an example, or why it is none.

        Args:
            source: where it is from.
            read_label: of a cell; raises ValueError with words that go before "in column …". None: there is no label.
        """
        if record.broken:
            return Broken(record.where, record.broken)
        columns = self.columns.of(source)
        texts = []
        for column in (columns[name] for name in self.fields if name in columns):
            value = plain(record.columns.get(column))
            if value is None:
                return Broken(record.where, f"missing column {column!r}")
            if not isinstance(value, str):
                return Broken(record.where, f"{column!r} is not text")
            if not value.strip():
                return Broken(record.where, "empty text")
            if not encodable(value):
                return Broken(record.where, "not valid Unicode")
            texts.append(value)
        size = sum(map(len, texts))
        if len(texts) == 2 and size > MAX_PAIR_CHARACTERS:
            return Broken(record.where, f"the pair has {size:,} characters, at most {MAX_PAIR_CHARACTERS:,} are read")
        try:
            target = None if read_label is None else read_label(record.columns.get(columns[LABEL]))
        except ValueError as error:
            return Broken(record.where, f"{error} in column {columns[LABEL]!r}")
        return Example(self.make_item(*texts), target, source, record.where)


def head_and_tail(row: Row, limit: int) -> Row:
    """The row's first and last tokens, `limit` in all: both ends of a text say more than its middle."""
    if row.num_tokens <= limit:
        return row
    tail = limit // 2
    head = limit - tail
    ids, types = list(row.input_ids), list(row.token_type_ids)
    return Row(ids[:head] + ids[-tail:], types[:head] + types[-tail:])


def joined_text(item: ClassificationItem) -> str:
    """The text, and that of a pair after it."""
    return item.text if item.text_pair is None else f"{item.text}\n{item.text_pair}"

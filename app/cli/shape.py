"""The shape of what is asked: which columns hold a task's fields, and one input as it was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.core.errors import HooperError
from app.core.types import TaskName

Format = Literal["auto", "lines", "jsonl", "csv", "tsv", "parquet"]
TEXT_NAMES = ("text", "sentence", "review", "content", "body", "document", "article", "query", "message", "title")
COLUMNS: Mapping[TaskName, Mapping[str, Sequence[str]]] = {
    "text-classification": {
        "text": (*TEXT_NAMES, "sentence1", "premise"),
        "text_pair": ("text_pair", "sentence2", "hypothesis"),
    },
    "question-answering": {"question": ("question",), "context": ("context", "passage", "paragraph", "text")},
    "summarization": {"text": TEXT_NAMES},
}
"""The fields of each task's items, with the names under which columns hold them; the first that is there is taken."""
OPTIONAL = "text_pair"


@dataclass(frozen=True, slots=True)
class Asked:
    """One input: where it stands, and its fields or why it cannot be asked."""

    source: str
    line: int
    fields: Mapping[str, Any] | HooperError
    id: Any = None
    num_characters: int = 0


@dataclass(frozen=True)
class Shape:
    """How inputs are read."""

    task: TaskName
    max_bytes: int
    """Of one line, and of one row of a csv file."""
    format: Format = "auto"
    text_column: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    """Fields that are the same for every input, such as the question."""

    @property
    def text_field(self) -> str:
        """The field that a plain line of text stands for."""
        wanted = [name for name in COLUMNS[self.task] if name != OPTIONAL and name not in self.given]
        return wanted[-1] if wanted else next(iter(COLUMNS[self.task]))

    def fields(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The item's fields among the columns; those that are given are filled in."""
        found: dict[str, Any] = dict(self.given)
        for name, names in COLUMNS[self.task].items():
            wanted = (self.text_column,) if self.text_column and name == self.text_field else names
            present = [one for one in wanted if one in columns]
            if present and name not in self.given:
                found[name] = columns[present[0]]
        return found

    def missing(self, columns: Sequence[str]) -> list[str]:
        return [name for name in COLUMNS[self.task] if name != OPTIONAL and name not in self.fields(dict.fromkeys(columns))]

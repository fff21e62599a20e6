"""How answers look in a table, and on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TableSpec:
    """The columns of an answer in a table."""

    single: Mapping[str, type]
    """Keys of a result that have one column each."""
    ranked: str = ""
    """Key of a result's list, best first, whose elements have columns of their own; empty: there is none."""
    per_rank: Mapping[str, type] = field(default_factory=dict)
    """Keys of such an element."""
    joined: Callable[[Mapping[str, Any]], Mapping[str, Callable[[Mapping[str, Any]], str]]] = lambda task_options: {}
    """From the manifest's task options to columns of text, each made of a whole result with all elements of its list."""
    vector: str = ""
    """Key of a result that is a list of numbers, as many in each result of a request; empty: there is none."""
    vector_size: Callable[[Mapping[str, Any], Mapping[str, Any]], int] = lambda task_options, options: 0
    """How many they are, by the manifest's task options and those of the request."""

    def columns(self, limit: int) -> dict[str, type]:
        """The columns and their types, for the best `limit` of each answer's list: `label`, `score`, `label_2`, …."""
        numbered = {f"{name}_{rank}": kind for rank in range(2, limit + 1) for name, kind in self.per_rank.items()}
        return {**self.per_rank, **numbered, **self.single}

    def cells(self, result: Mapping[str, Any], limit: int) -> list[Any]:
        """The cells of a result as JSON; None where it has nothing, as an error has no answer."""
        ranked = result.get(self.ranked) or []
        best = [ranked[rank].get(name) if rank < len(ranked) else None for rank in range(limit) for name in self.per_rank]
        return [*best, *(result.get(name) for name in self.single)]


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of an answer on a terminal."""

    score: float | None
    answer: str
    width: int = 0
    """Columns of the answer, which is cut to it; 0: as long as it is."""
    source: str = ""
    """What it was asked of, cut to what is left of the line."""


def lines_of(source: Any, answers: Iterable[tuple[float | None, str]], width: int) -> Sequence[TextLine]:
    """Answers with their scores as lines, the first of which names what they were asked of."""
    return [
        TextLine(score, answer, width, str(source) if number == 0 else "") for number, (score, answer) in enumerate(answers)
    ]

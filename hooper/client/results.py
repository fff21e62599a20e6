"""What a client gives back: results in the order of the inputs, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from app.api.protocols.envelope import FailedItem, ItemError, ModelRef
from app.tasks.spec import TableSpec
from hooper.errors import ItemsFailed

ResultT = TypeVar("ResultT")
SHOWN = 3
"""Results that the `repr` of a longer list shows."""


@dataclass(slots=True)
class PartAnswers:
    """The answers to one request, and to items that were not sent since they are none."""

    results: list[Any]
    model: ModelRef | None = None
    num_tokens: int = 0
    request_ids: list[str] = field(default_factory=list)

    def add(self, other: PartAnswers) -> None:
        self.results += other.results
        self.model = other.model or self.model
        self.num_tokens += other.num_tokens
        self.request_ids += other.request_ids


class AnswerList(list[ResultT]):
    """A list of results, each in the place of its input; `FailedItem` where an item could not be answered."""

    def __init__(self, results: Iterable[ResultT], part: PartAnswers, table: TableSpec, index: Any = None) -> None:
        super().__init__(results)
        self._table, self._index = table, index
        self.model: ModelRef | None = part.model
        """Name and version of the model that answered; of several requests, the last one's."""
        self.num_tokens = part.num_tokens
        """Tokens that the model read."""
        self.request_ids: Sequence[str] = part.request_ids
        """What the service's log has the requests under."""

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:SHOWN]))
        return f"[{shown}]" if len(self) <= SHOWN else f"<{len(self):,} results: {shown}, …>"

    @property
    def failed(self) -> list[tuple[int, ItemError]]:
        """The numbers of the items that were not answered, counted from 0, and why."""
        return [(number, result.error) for number, result in enumerate(self) if isinstance(result, FailedItem)]

    def check(self) -> None:
        """
        Raises:
            ItemsFailed: an item was not answered.
        """
        failed = [(number, error.detail) for number, error in self.failed]
        if failed:
            raise ItemsFailed.of(failed, self)

    def to_frame(self, num_ranks: int = 1) -> Any:
        """A data frame of pandas with a row for each input, whose index it has: the best label or answer, with its score.

        Args:
            num_ranks: so many of the best ones have columns: `label`, `score`, `label_2`, `score_2`, ….

        Raises:
            InvalidSettings: pandas is not installed.
        """
        from hooper.tables import frame_of

        results = [result.model_dump() for result in self]  # type: ignore[attr-defined]  # all of them are schemas
        return frame_of(results, self._table, num_ranks, self._index)

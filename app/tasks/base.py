"""The Task protocol: a request item becomes rows, and row outputs become an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from app.core.errors import HooperError, InvalidInput
from app.core.types import Row, RowOutput
from app.tasks.tokenizer import encodable

ItemT = TypeVar("ItemT", contravariant=True)
OptionsT = TypeVar("OptionsT", contravariant=True)
AnswerT = TypeVar("AnswerT", covariant=True)


@dataclass(frozen=True, slots=True)
class Encoded:
    """An item as rows, with what its task needs to read the outputs."""

    rows: Sequence[Row]
    num_tokens: int
    """Tokens the model reads, special tokens included, summed over the rows."""
    truncated: bool
    state: Any = None
    """Private to the task that made it."""


@dataclass(frozen=True, slots=True)
class Result:
    """One item's answer."""

    answer: Any
    num_tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What an answer comes to."""

    label: str
    """The best one; empty where the task has no labels."""
    confidence: float
    """The best score, between 0 and 1."""


class Task(Protocol[ItemT, OptionsT, AnswerT]):
    """One task of one model. Stateless and synchronous, safe to call from several threads."""

    def encode(self, items: Sequence[ItemT], options: OptionsT) -> list[Encoded | HooperError]:
        """Turn items into rows; an item that cannot be encoded yields its error in its place."""
        ...

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: OptionsT) -> AnswerT:
        """Read one item's row outputs, in the order of its rows."""
        ...

    def decision(self, answer: Any, options: OptionsT) -> Decision | None:
        """What the answer comes to; None where the caller's options give its score another meaning than it usually has."""
        ...

    def same_decision(self, answer: Any, other: Any, options: OptionsT) -> bool:
        """Whether two models' answers to the same item agree: what the parity gate and a shadow count."""
        ...

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        """Where an item of the golden requests is answered otherwise than when the model was published; empty: nowhere.

        What an answer means is compared, not how it is written down: rounding may swap what is nearly tied.

        Args:
            encoded, outputs: as for `decode`, with the task's default options.
            expected: the published answer, as JSON; of a version of any age.
            tolerance: how far a score between 0 and 1 may lie from the published one.
        """
        ...


def refuse_text(text: str, field: str) -> InvalidInput | None:
    """Why no model can read this text, if so; `field` is its name in the item."""
    if not text.strip():
        return InvalidInput("must not be empty", field)
    if not encodable(text):
        return InvalidInput("contains a lone surrogate, which is not valid Unicode", field)
    return None

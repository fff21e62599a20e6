"""The Task protocol: a request item becomes rows, and row outputs become an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from app.core.errors import HooperError, InvalidInput
from app.core.sequences import SamplingParams
from app.core.types import Row, RowOutput
from app.tasks.tokenizer import encodable

ItemT = TypeVar("ItemT", contravariant=True)
OptionsT = TypeVar("OptionsT", contravariant=True)
AnswerT = TypeVar("AnswerT", covariant=True)


@dataclass(frozen=True, slots=True)
class TextItem:
    """An item that is one text."""

    text: str

    def __len__(self) -> int:
        """Characters: what tokenizing costs."""
        return len(self.text)


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
    num_reused: int = 0
    """Tokens of its first row that were not read for it, since they were before."""


def telling_reused(
    encoded: Sequence[Encoded | HooperError], results: Sequence[Result | HooperError], num_reused: Sequence[int]
) -> list[Result | HooperError]:
    """Results that say what of their first rows was not read for them.

    Args:
        encoded, results: of each item.
        num_reused: of each row, in the order of the items; empty: nothing.
    """
    remaining = iter(num_reused)
    of_items = [[next(remaining, 0) for _ in item.rows] if isinstance(item, Encoded) else [] for item in encoded]
    return [
        replace(result, num_reused=rows[0]) if isinstance(result, Result) and rows and rows[0] else result
        for result, rows in zip(results, of_items, strict=True)
    ]


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


@dataclass(frozen=True, slots=True)
class StreamedText:
    """A piece of an item's text that is being written."""

    text: str
    num_new_tokens: int
    """Written so far, those of the pieces before it included."""
    num_tokens: int
    """Read of the item."""
    index: int = 0
    """Of the text, where each of several is told."""
    steps: tuple[RowOutput, ...] = ()
    """What it is made of, where more than its tokens is known of them: what the steps since the piece before it gave."""


class Detokenizer(Protocol):
    """The text of one item while its rows are being written, token by token. What was told is never taken back."""

    def push(self, index: int, token_ids: Sequence[int], is_last: bool) -> str:
        """What may be told now that it could not be before; may be empty.

        Args:
            token_ids: what a step wrote of it; may be empty.
            is_last: whether the row is finished.
        """
        ...

    def end(self) -> str:
        """What was held back, once all rows are finished."""
        ...


@runtime_checkable
class Generative(Protocol):
    """A task whose rows are sources from which sequences are generated.

    `Task.decode` reads of each row, joined over its steps, `token_ids` (tokens,), all tokens written, the end of sequence
    included, and `sequence_index` (tokens,), the place among the sequences returned for the row that each belongs to.
    """

    def sampling(self, options: Any) -> SamplingParams:
        """How the rows of a request are generated; the k-th row of an item, counted from 0, is drawn with `seed + k`.

        Raises:
            InvalidInput: the options contradict each other, or the model cannot do what they ask for.
        """
        ...

    def detokenizers(self, encoded: Encoded, options: Any) -> Sequence[Detokenizer]:
        """For the steps of one item's rows: one for all, which together tells the best text of what `decode` answers, or
        one for each, where each of several texts is to be told."""
        ...

    def golden_options(self) -> Any:
        """With which a model's golden requests are answered: greedy, and few tokens."""
        ...


def refuse_text(text: str, field: str) -> InvalidInput | None:
    """Why no model can read this text, if so; `field` is its name in the item."""
    if not text.strip():
        return InvalidInput("must not be empty", field)
    if not encodable(text):
        return InvalidInput("contains a lone surrogate, which is not valid Unicode", field)
    return None

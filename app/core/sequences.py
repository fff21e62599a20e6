"""What the scheduler and its engines exchange: sequences, batches of them, and what one step of an engine gave."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, field
from typing import Literal

from app.core.errors import HooperError
from app.core.types import Priority, Row, RowOutput

Phase = Literal["encode", "prefill", "decode"]
"""`encode` answers rows in one step; `prefill` reads a row and gives the first output of a sequence, `decode` each later."""

SequenceState = Literal["waiting", "running", "finished"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a sequence is generated."""

    max_new_tokens: int
    """Steps after which a sequence ends that has not ended by itself."""


@dataclass(eq=False, slots=True)
class Sequence:
    """A row on its way through an engine, in one step or in many."""

    row: Row
    sampling: SamplingParams | None = None
    """None: the row is encoded, and the sequence ends with its first step."""
    deadline: float | None = None
    """`time.monotonic()` seconds after which nobody wants its output."""
    priority: Priority = "interactive"
    state: SequenceState = "waiting"
    cache_slot: int | None = None
    """Where the engine keeps what a generating sequence needs again, from its admission to its end."""
    outputs: list[RowOutput | HooperError] = field(default_factory=list)
    """What its steps gave so far."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences that take one step together."""

    phase: Phase
    sequences: abc.Sequence[Sequence]

    @classmethod
    def of_rows(cls, rows: abc.Iterable[Row]) -> Batch:
        """Rows to encode."""
        return cls("encode", [Sequence(row) for row in rows])


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one step gave: an output or an error for every sequence, in order, and what it cost."""

    outputs: abc.Sequence[RowOutput | HooperError]
    """Of a generating sequence, the first axis of each array is the step: (1, features)."""
    num_computed_tokens: int
    """Tokens that the engine multiplied, padding included."""
    inference_s: float
    is_finished: abc.Sequence[bool] = ()
    """Whether each sequence has ended by itself; empty after `encode`, which ends all of them."""

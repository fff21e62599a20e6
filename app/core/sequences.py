"""What the scheduler and its engines exchange: sequences, batches of them, and what one step of an engine gave."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from app.core.errors import HooperError
from app.core.types import Array, Priority, Row, RowOutput

Phase = Literal["encode", "prefill", "decode"]
"""`encode` answers rows in one step; `prefill` reads a row and gives the first output of a sequence, `decode` each later."""

SequenceState = Literal["waiting", "running", "finished"]


class TokenFilter(Protocol):
    """What one sequence may go on with, by what was written of it; asked by one thread at a time, beside the engine's own."""

    def allowed(self) -> Array:
        """(vocabulary,) of bool: which tokens may be written next; the end of a sequence, where it may end.

        Raises:
            InvalidInput: what was asked for cannot be followed any further.
        """

    def advance(self, token_id: int) -> None:
        """Take note of what was written."""


class Constraint(Protocol):
    """What a sequence must be, as of a grammar."""

    def start(self) -> TokenFilter:
        """For one sequence from its beginning."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a sequence is generated; names and meanings are those of transformers' `GenerationConfig`.

    Greedy where `temperature` is 0, else drawn; with several beams neither temperature nor the filters after it count.
    """

    max_new_tokens: int
    """Steps after which a sequence ends that has not ended by itself; fewer, where a row is continued and fills the cache."""
    min_new_tokens: int = 0
    decoder_input_ids: tuple[int, ...] = ()
    """What the decoder reads first, where an encoder reads the row: the start token. Empty: the row itself is continued."""
    eos_token_ids: tuple[int, ...] = ()
    num_beams: int = 1
    early_stopping: bool | Literal["never"] = False
    length_penalty: float = 1.0
    num_return_sequences: int = 1
    """Of the beams, the best so many are returned; 1 without beams."""
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    """Of what is drawn: the same text for the same row, whatever else is in the batch."""
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    """Taken from the score of every token that was written before; as OpenAI's API has it, without those that were read."""
    frequency_penalty: float = 0.0
    """The same, as often as the token was written."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Tokens, and what is added to the score of each, whatever was written before."""
    no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    forced_bos_token_id: int | None = None
    """The first token written."""
    forced_eos_token_id: int | None = None
    """The token written where `max_new_tokens` is reached."""
    constraint: Constraint | None = None
    """What the sequence must be; without beams. The token that `forced_bos_token_id` names is none of it."""
    num_logprobs: int | None = None
    """Without beams: of so many of the likeliest tokens of each step, and of the one that was written, the log-probability is
    put out; None: of none."""
    prefix_owner: str | None = None
    """Whose row it is that is continued: what was read of its beginning is kept for others of the same owner, and they for it;
    None: it is not."""
    ends: Callable[[abc.Sequence[int]], bool] | None = None
    """Whether a sequence ends with these tokens, all that were written so far; asked after every step of a sequence without
    beams, on the engine's thread."""


Sampling = SamplingParams | abc.Sequence[SamplingParams] | None
"""How to generate from several rows: from all in one way, from each in its own, or not at all."""


def of_each(sampling: Sampling, num_rows: int) -> abc.Sequence[SamplingParams | None]:
    """How to generate from each of so many rows."""
    return sampling if isinstance(sampling, abc.Sequence) else [sampling] * num_rows


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

    @property
    def num_cache_rows(self) -> int:
        """Of the cache, that it needs where it is generated: each beam has its own."""
        return 1 if self.sampling is None else self.sampling.num_beams


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
    is_reading: abc.Sequence[bool] = ()
    """Whether each sequence has more of its row to read before it is written: its output says nothing. Empty: none has."""
    num_reused: abc.Sequence[int] = ()
    """Tokens of each sequence's row that were not read, since they were before; empty: none."""
    num_read: int = 0
    """Tokens of rows that are continued, which were read, of all sequences together."""
    num_evicted: int = 0
    """Pages of beginnings that were kept, and are no more."""

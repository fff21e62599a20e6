"""The way back: what a caller awaits or iterates, and the events that the metrics are made of."""

from __future__ import annotations

import asyncio
import math
import time
from collections import abc
from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.core.errors import DeadlineExceeded, HooperError
from app.core.sequences import Phase, Sampling, Sequence, of_each
from app.core.types import Priority, Row, RowOutput

TIMER_SLACK_S = 0.005
"""uvloop's timers count whole milliseconds: a caller may be told of a deadline a moment before it has passed."""

DEADLINE_PASSED = "the deadline passed before the engine answered"
"""What a caller is told, whether its own timer or the scheduler comes across the deadline first."""

DropReason = Literal["deadline", "client_left"]


# --- events


@dataclass(frozen=True, slots=True)
class BatchRan:
    """One step of a batch."""

    num_rows: int
    num_tokens: int
    num_computed_tokens: int
    inference_s: float
    phase: Phase = "encode"


@dataclass(frozen=True, slots=True)
class BatchFailed:
    """A batch that the engine did not answer, or a part of one that was run again."""

    num_rows: int
    error: HooperError


@dataclass(frozen=True, slots=True)
class RowsDropped:
    """Rows that never reached the engine, or were no longer generated, since nobody wanted their answer any more."""

    num_rows: int
    reason: DropReason


@dataclass(frozen=True, slots=True)
class TokensGenerated:
    """What a step of sequences that are generated came to, and how long each of their callers waited for it."""

    num_tokens: int
    first_s: abc.Sequence[float]
    """Since their submission, of the sequences whose first output it was."""
    between_s: abc.Sequence[float]
    """Since their last output, of the others."""


@dataclass(frozen=True, slots=True)
class PromptsRead:
    """What a step did in rows that are continued, in tokens: read, or copied from where they were read before."""

    num_read: int
    num_reused: int
    num_evicted: int
    """Pages of beginnings that were kept, and are no more."""


Event = BatchRan | BatchFailed | RowsDropped | TokensGenerated | PromptsRead
EventListener = abc.Callable[[Event], None]


# --- results


@dataclass(frozen=True, slots=True)
class SubmissionResult:
    """A submission's outputs, in the order of its rows, and where its time went."""

    outputs: abc.Sequence[RowOutput | HooperError]
    """Of a row that was generated, the outputs of its steps one after the other: (steps, features)."""
    queue_s: float
    """From submission until its first row reached the engine."""
    inference_s: float
    """Spent in the engine, summed over the batches that held its rows; of those that ran in parallel, no more than passed."""
    batch_rows: int = 0
    """Rows of the largest of those batches, other callers' included; 0 where none ran."""
    batch_tokens: int = 0
    """Tokens of the one that had most, in the same way."""
    num_reused: abc.Sequence[int] = ()
    """Tokens of each row that is continued which were not read, since they were before; empty: none."""


@dataclass(frozen=True, slots=True)
class StreamedStep:
    """What one step gave for one row of a submission."""

    index: int
    """Of the row."""
    output: RowOutput | HooperError
    is_last: bool


@dataclass(eq=False, slots=True, kw_only=True)
class SubmittedSequence(Sequence):
    """A sequence, and whose it is."""

    submission: Submission
    index: int
    last_output: float | None = None
    """`time.monotonic()` seconds at which a step last gave something of it."""
    num_reused: int = 0
    """Tokens of its row that were not read, since they were before."""


class Submission:
    """Rows that a scheduler has accepted: to be awaited (`result`), iterated (`stream`), or cancelled.

    Invariant: its future is completed exactly once; a caller who leaves is reported to the scheduler at once.
    """

    __slots__ = (
        "_held", "_leave", "_stream", "batch_rows", "batch_tokens", "deadline", "future", "inference_s", "is_split",
        "num_missing", "num_new_tokens", "num_running", "sequences", "started", "submitted",
    )  # fmt: skip

    def __init__(
        self,
        rows: abc.Sequence[Row],
        sampling: Sampling,
        deadline: float | None,
        priority: Priority,
        leave: abc.Callable[[Submission, DropReason], None],
    ) -> None:
        """`leave` is called when nobody wants the answer any more, or has it."""
        self.deadline, self._leave = deadline, leave
        self.future: asyncio.Future[SubmissionResult] = asyncio.get_running_loop().create_future()
        self.sequences = [
            SubmittedSequence(row, of_row, deadline, priority, submission=self, index=index)
            for index, (row, of_row) in enumerate(zip(rows, of_each(sampling, len(rows)), strict=True))
        ]
        self.num_missing = len(rows)
        self.num_new_tokens = 0  # written so far, those of each beam
        self.submitted, self.started = time.monotonic(), math.inf
        self.num_running = 0  # batches in engines that hold rows of it
        self.is_split = False  # whether two of them ran at the same time
        self.inference_s, self.batch_rows, self.batch_tokens = 0.0, 0, 0
        self._stream: asyncio.Queue[StreamedStep | None] | None = None  # None ends it
        self._held: list[StreamedStep] = []  # delivered, but not told

    async def result(self) -> SubmissionResult:
        """Wait for every row; whoever is cancelled while waiting has left.

        Raises:
            DeadlineExceeded: the deadline passed first.
            Unavailable: the scheduler was closed, or its loop died.
        """
        reason: DropReason = "client_left"
        timer = self._deadline_timer()
        try:
            return await self.future
        except DeadlineExceeded:
            reason = "deadline"
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._end(reason)

    async def stream(self) -> abc.AsyncGenerator[StreamedStep]:
        """What each step gives, as it comes. Whoever closes the generator (`contextlib.aclosing`) before its end has left.

        Raises:
            DeadlineExceeded, Unavailable: as `result`.
        """
        self._stream = steps = asyncio.Queue[StreamedStep | None]()
        for step in self._steps_so_far():
            steps.put_nowait(step)
        if self.future.done():
            steps.put_nowait(None)
        reason: DropReason = "client_left"
        timer = self._deadline_timer()  # one for all steps
        try:
            while (following := await steps.get()) is not None:
                yield following
            if not self.future.cancelled():
                self.future.result()
        except DeadlineExceeded:
            reason = "deadline"
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self.cancel(reason)

    def cancel(self, reason: DropReason = "client_left") -> None:
        """Want nothing of it any more."""
        if self.future.cancel():
            self._end_stream()
        self._end(reason)

    def deliver(self, sequence: SubmittedSequence, output: RowOutput | HooperError, is_last: bool) -> None:
        """Take what a step gave for one of its sequences. A stream has it with `tell`, or with its end."""
        sequence.outputs.append(output)
        if self._stream is not None:
            self._held.append(StreamedStep(sequence.index, output, is_last))
        if not is_last:
            return
        sequence.state = "finished"
        self.num_missing -= 1
        if not self.num_missing and not self.future.done():
            outputs = [_joined(sequence.outputs) for sequence in self.sequences]
            queue_s, num_reused = self.started - self.submitted, [sequence.num_reused for sequence in self.sequences]
            self.future.set_result(
                SubmissionResult(outputs, queue_s, self.inference_s, self.batch_rows, self.batch_tokens, num_reused)
            )
            self._end_stream()

    def tell(self) -> None:
        """Let whoever iterates have what was delivered."""
        if self._held and self._stream is not None:
            for step in self._held:
                self._stream.put_nowait(step)
            self._held.clear()

    def refuse(self, error: HooperError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # taken note of: whoever left before asking need not be told in the log
            self._end_stream()

    def _deadline_timer(self) -> asyncio.TimerHandle | None:
        """Refuses it when its time is over; None where it has any. Cheaper than `asyncio.timeout`, which ends its task."""
        if self.deadline is None:
            return None
        left_s, late = self.deadline - time.monotonic(), DeadlineExceeded(DEADLINE_PASSED)
        return asyncio.get_running_loop().call_later(max(0.0, left_s), self.refuse, late)

    def _end(self, reason: DropReason) -> None:
        self._leave(self, reason)
        self.sequences = []  # each refers to its submission: without the cycle both go as soon as the engine lets go of them

    def _end_stream(self) -> None:
        if self._stream is not None:
            self.tell()
            self._stream.put_nowait(None)

    def _steps_so_far(self) -> abc.Iterator[StreamedStep]:
        for sequence in self.sequences:
            for number, output in enumerate(sequence.outputs, start=1):
                is_last = sequence.state == "finished" and number == len(sequence.outputs)
                yield StreamedStep(sequence.index, output, is_last)


def _joined(outputs: abc.Sequence[RowOutput | HooperError]) -> RowOutput | HooperError:
    """The output of a sequence from those of its steps: an error where it ended in one."""
    last = outputs[-1]
    if len(outputs) == 1 or isinstance(last, HooperError):
        return last
    steps = [output for output in outputs if not isinstance(output, HooperError)]
    return {name: np.concatenate([step[name] for step in steps]) for name in last}


def cancel_reason(sequence: SubmittedSequence, now: float) -> DropReason | None:
    """Why nobody wants this sequence any more; None where somebody does. A caller whose deadline has passed is told."""
    submission, deadline = sequence.submission, sequence.deadline
    if deadline is not None and deadline <= now:
        submission.refuse(DeadlineExceeded(DEADLINE_PASSED))
        return "deadline"
    if not submission.future.done():
        return None
    return "deadline" if deadline is not None and deadline <= now + TIMER_SLACK_S else "client_left"

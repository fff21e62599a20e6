"""Running one step of a batch to its end: an output or an error for each of its sequences, whatever the engine does."""

from __future__ import annotations

import time
from collections import abc

from app.batching.engine import Engine
from app.batching.policy import AdaptiveTokenBudget, Budget
from app.batching.results import (
    BatchFailed,
    BatchRan,
    EventListener,
    PromptsRead,
    RowsDropped,
    SubmittedSequence,
    TokensGenerated,
    cancel_reason,
)
from app.core.errors import EngineFailed, EngineLost, EngineStalled, HooperError, OutOfMemory
from app.core.sequences import Batch, Phase, StepOutput
from app.core.types import RowOutput


class StepExecutor:
    """Invariant: after `run` each sequence of the batch has what its step gave, or `run` has raised `EngineLost`.

    Rows that fail to encode are run again in halves, and those in theirs, until the guilty row stands alone: a row runs at most
    1 + log2(rows) times, rounded up, and a batch of n rows costs at most 2n - 1 runs. A batch that stalled is not run again: it
    would take its time limit as often. Nor are `prefill` and `decode`, which have changed what the engine keeps.
    """

    def __init__(self, budget: Budget, listener: EventListener) -> None:
        self._listener = listener
        self._budget = AdaptiveTokenBudget.of(budget)

    @property
    def budget(self) -> Budget:
        """What a batch may hold now: less than configured while memory is short."""
        return self._budget.budget

    async def run(
        self, engine: Engine, phase: Phase, batch: abc.Sequence[SubmittedSequence], on_computed: abc.Callable[[], None]
    ) -> None:
        """
        Args:
            engine: has nothing else to do.
            batch: at least one sequence.
            on_computed: called once the batch was computed as a whole, before anybody is told: the engine is free by then.

        Raises:
            EngineLost: the engine can run nothing more. Sequences that it left unfinished have no answer.
        """
        now = time.monotonic()
        submissions = {sequence.submission for sequence in batch}
        for submission in submissions:
            submission.started = min(submission.started, now)  # its first row's
            submission.is_split = submission.is_split or submission.num_running > 0
            submission.num_running += 1
        try:
            lacked_memory = await self._attempt(engine, phase, batch, on_computed)
        finally:
            for submission in submissions:
                submission.num_running -= 1
        if lacked_memory and len(batch) > 1:  # a lone row's need says nothing about batches
            self._budget = self._budget.after_out_of_memory()

    async def _attempt(
        self,
        engine: Engine,
        phase: Phase,
        batch: abc.Sequence[SubmittedSequence],
        on_computed: abc.Callable[[], None] = lambda: None,
    ) -> bool:
        """Whether the batch, as a whole, was more than memory could hold."""
        try:
            step = await self._forward(engine, Batch(phase, batch))
        except EngineLost as lost:
            self._listener(BatchFailed(len(batch), lost))
            raise
        except EngineFailed as error:
            self._listener(BatchFailed(len(batch), error))
            await self._isolate(engine, phase, batch, error)
            return isinstance(error, OutOfMemory)
        self._budget = self._budget.after_success()
        num_tokens = _num_tokens(phase, batch)
        self._listener(BatchRan(len(batch), num_tokens, step.num_computed_tokens, step.inference_s, phase))
        on_computed()
        self._deliver(phase, batch, step, num_tokens)
        return False

    async def _forward(self, engine: Engine, batch: Batch) -> StepOutput:
        """The engine's output, with whatever else it raises turned into EngineFailed."""
        try:
            step = await engine.forward(batch)
        except (EngineFailed, EngineLost):
            raise
        except Exception as error:  # an engine's failure is its rows' failure, never the loop's
            raise EngineFailed(
                f"the engine failed on a batch of {len(batch.sequences)} rows ({type(error).__name__})"
            ) from error
        num_rows = len(batch.sequences)
        if len(step.outputs) != num_rows:
            raise EngineFailed(f"the engine gave {len(step.outputs)} outputs for {num_rows} rows")
        if batch.phase != "encode" and len(step.is_finished) != num_rows:
            raise EngineFailed(f"the engine said of {len(step.is_finished)} sequences whether they ended, of {num_rows}")
        return step

    async def _isolate(self, engine: Engine, phase: Phase, batch: abc.Sequence[SubmittedSequence], error: HooperError) -> None:
        """Run the halves of a failed batch once more, so that one bad row fails alone."""
        if phase != "encode" or len(batch) == 1 or isinstance(error, EngineStalled):
            for sequence in batch:
                sequence.submission.deliver(sequence, error, is_last=True)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            pending = self._still_wanted(half)
            if pending:
                await self._attempt(engine, phase, pending)

    def _still_wanted(self, batch: abc.Sequence[SubmittedSequence]) -> list[SubmittedSequence]:
        """Those whose caller is still there: a batch that is run again may have outlived some."""
        now = time.monotonic()
        pending = []
        for sequence in batch:
            reason = cancel_reason(sequence, now)
            if reason is None:
                pending.append(sequence)
            else:
                self._listener(RowsDropped(1, reason))
        return pending

    def _deliver(self, phase: Phase, batch: abc.Sequence[SubmittedSequence], step: StepOutput, num_tokens: int) -> None:
        for submission in {sequence.submission for sequence in batch}:
            total_s = submission.inference_s + step.inference_s
            submission.inference_s = min(total_s, time.monotonic() - submission.started) if submission.is_split else total_s
            submission.batch_rows = max(submission.batch_rows, len(batch))
            submission.batch_tokens = max(submission.batch_tokens, num_tokens)
        for sequence, num_reused in zip(batch, step.num_reused, strict=False):  # where it says anything, of each
            sequence.num_reused += num_reused
        is_finished, is_reading = step.is_finished or [True] * len(batch), step.is_reading or [False] * len(batch)
        for sequence, output, has_ended, reads_on in zip(batch, step.outputs, is_finished, is_reading, strict=True):
            if reads_on:
                continue  # it has written nothing yet, and this is none of its steps
            is_last = has_ended or isinstance(output, HooperError) or is_at_limit(sequence)
            sequence.submission.num_new_tokens += sequence.num_cache_rows
            sequence.submission.deliver(sequence, output, is_last)
        if phase != "encode":
            self._listener(_generated(batch, step.outputs))
        if step.num_read or step.num_evicted:
            self._listener(PromptsRead(step.num_read, sum(step.num_reused), step.num_evicted))


def _num_tokens(phase: Phase, batch: abc.Iterable[SubmittedSequence]) -> int:
    """That the step read: one of each row that is written."""
    if phase == "decode":
        return sum([sequence.num_cache_rows for sequence in batch])
    return sum([sequence.row.num_tokens for sequence in batch])


def _generated(batch: abc.Sequence[SubmittedSequence], outputs: abc.Sequence[RowOutput | HooperError]) -> TokensGenerated:
    """The event of a step's outputs, of which those count that hold something: with beams the last ones alone do."""
    now, num_tokens = time.monotonic(), 0
    first_s, between_s = list[float](), list[float]()
    for sequence, output in zip(batch, outputs, strict=True):
        num_given = 0 if isinstance(output, HooperError) else len(next(iter(output.values())))
        if not num_given:
            continue
        num_tokens += num_given
        if sequence.last_output is None:
            first_s.append(now - sequence.submission.submitted)
        else:
            between_s.append(now - sequence.last_output)
        sequence.last_output = now
    return TokensGenerated(num_tokens, first_s, between_s)


def is_at_limit(sequence: SubmittedSequence) -> bool:
    """Whether one more output is all that the caller wants."""
    return sequence.sampling is None or len(sequence.outputs) + 1 >= sequence.sampling.max_new_tokens

"""Running a batch to its end: an output or an error for each of its rows, whatever the engine does."""

from __future__ import annotations

import time
from collections.abc import Sequence

from app.batching.events import BatchFailed, BatchRan, RowsDropped, Tell
from app.batching.memory import Allowance
from app.batching.policy import Budget
from app.batching.queue import Waiting, unwanted_because
from app.batching.watchdog import Runner
from app.core.errors import EngineFailed, EngineLost, EngineStalled, HooperError, OutOfMemory
from app.core.types import Row, RunResult


class Execution:
    """Invariant: after `run` each row of the batch has its answer, or it has raised `EngineLost`.

    A batch that fails is run again in halves, and those in theirs, until the guilty row stands alone: a row runs at most
    1 + log2(rows) times, rounded up, and a batch of n rows costs at most 2n - 1 runs. One that stalled is not run again: it
    would take its time limit as often.
    """

    def __init__(self, budget: Budget, tell: Tell) -> None:
        self._tell = tell
        self._allowance = Allowance.of(budget)

    @property
    def budget(self) -> Budget:
        """What a batch may hold now: less than configured while memory is short."""
        return self._allowance.budget

    async def run(self, runner: Runner, batch: Sequence[Waiting]) -> None:
        """
        Args:
            runner: the engine, which has nothing else to do.
            batch: at least one row.

        Raises:
            EngineLost: the engine can run nothing more. Rows without an answer have none.
        """
        now = time.monotonic()
        submissions = list({id(one.submission): one.submission for one in batch}.values())
        for submission in submissions:
            submission.started = min(submission.started, now)  # its first row's
            submission.is_split = submission.is_split or submission.num_running > 0
            submission.num_running += 1
        try:
            lacked_memory = await self._attempt(runner, batch)
        finally:
            for submission in submissions:
                submission.num_running -= 1
        if lacked_memory and len(batch) > 1:  # a lone row's need says nothing about batches
            self._allowance = self._allowance.after_out_of_memory()

    async def _attempt(self, runner: Runner, batch: Sequence[Waiting]) -> bool:
        """Whether the batch, as a whole, was more than memory could hold."""
        try:
            result = await self._ask(runner, [one.row for one in batch])
        except EngineLost as lost:
            self._tell(BatchFailed(len(batch), lost))
            raise
        except EngineFailed as error:
            self._tell(BatchFailed(len(batch), error))
            await self._isolate(runner, batch, error)
            return isinstance(error, OutOfMemory)
        self._allowance = self._allowance.after_success()
        self._answer(batch, result)
        return False

    async def _ask(self, runner: Runner, rows: Sequence[Row]) -> RunResult:
        """The runner's result, with whatever else it raises told as EngineFailed."""
        try:
            result = await runner.run(rows)
        except (EngineFailed, EngineLost):
            raise
        except Exception as error:  # an engine's failure is its rows' failure, never the loop's
            raise EngineFailed(f"the engine failed on a batch of {len(rows)} rows ({type(error).__name__})") from error
        if len(result.outputs) != len(rows):
            raise EngineFailed(f"the engine gave {len(result.outputs)} outputs for {len(rows)} rows")
        return result

    async def _isolate(self, runner: Runner, batch: Sequence[Waiting], error: HooperError) -> None:
        """Run the halves of a failed batch once more, so that one bad row fails alone."""
        if len(batch) == 1 or isinstance(error, EngineStalled):
            for one in batch:
                one.submission.answer(one.index, error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            wanted = self._still_wanted(half)
            if wanted:
                await self._attempt(runner, wanted)

    def _still_wanted(self, batch: Sequence[Waiting]) -> list[Waiting]:
        """Those whose caller is still there: a batch that is run again may have outlived some."""
        now = time.monotonic()
        wanted = []
        for one in batch:
            reason = unwanted_because(one, now)
            if reason is None:
                wanted.append(one)
            else:
                self._tell(RowsDropped(1, reason))
        return wanted

    def _answer(self, batch: Sequence[Waiting], result: RunResult) -> None:
        num_tokens = sum(one.row.num_tokens for one in batch)
        self._tell(BatchRan(len(batch), num_tokens, result.num_computed_tokens, result.inference_s))
        for submission in {id(one.submission): one.submission for one in batch}.values():
            spent = submission.inference_s + result.inference_s
            submission.inference_s = min(spent, time.monotonic() - submission.started) if submission.is_split else spent
            submission.batch_rows = max(submission.batch_rows, len(batch))
            submission.batch_tokens = max(submission.batch_tokens, num_tokens)
        for one, output in zip(batch, result.outputs, strict=True):
            one.submission.answer(one.index, output)

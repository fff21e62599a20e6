"""The batcher: rows of concurrent callers run together, and every accepted row is answered exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.batching.admission import DrainRate, QueueLimit
from app.batching.policy import Budget
from app.batching.queue import Answered as Answered  # what `submit` returns
from app.batching.queue import Queue, Submission, Waiting, is_unwanted
from app.core.errors import DeadlineExceeded, EngineFailed, HooperError, Overloaded, TooLarge, Unavailable
from app.core.types import Priority, Row, RunResult

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """What the batcher needs of an engine."""

    async def run(self, rows: Sequence[Row]) -> RunResult: ...


@dataclass(frozen=True, slots=True)
class BatchRan:
    """One batch, for whoever keeps the metrics."""

    num_rows: int
    num_tokens: int
    num_computed_tokens: int
    inference_s: float


class Batcher:
    """Work-conserving: a batch starts as soon as the engine is free and takes what is waiting; no timer.

    Invariant: a submission's future is completed exactly once, whatever happens to the engine, the loop or the caller.
    """

    def __init__(
        self, runner: Runner, budget: Budget, limit: QueueLimit, on_batch: Callable[[BatchRan], None] = lambda _: None
    ) -> None:
        self.budget, self.limit = budget, limit
        self._runner, self._on_batch = runner, on_batch
        self._queue = Queue()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._rate = DrainRate()
        self._running: list[Waiting] = []
        self._closed_because: str | None = None
        self._loop = asyncio.create_task(self._work(), name="batcher")

    @property
    def num_waiting_rows(self) -> int:
        return self._queue.num_rows

    @property
    def is_alive(self) -> bool:
        """Whether a submission would be answered by the engine."""
        return self._closed_because is None and not self._loop.done()

    def check_open(self, priority: Priority = "interactive") -> None:
        """Refuse early, before a request is worth any work.

        Raises:
            Unavailable: the batcher is closing or its loop has died.
            Overloaded: the queue is full already.
        """
        if not self.is_alive:
            raise Unavailable(self._closed_because or "the engine is down")
        limit = self.limit.of(priority)
        if self._queue.num_rows >= limit.max_rows or self._queue.num_tokens >= limit.max_tokens:
            raise self._overloaded(0)

    async def submit(self, rows: Sequence[Row], deadline: float | None = None, priority: Priority = "interactive") -> Answered:
        """Run rows, together with other callers' where that fits.

        Args:
            rows: at least one row, each within the budget.
            deadline: `time.monotonic()` seconds after which the caller no longer wants an answer.
            priority: `bulk` rows run where interactive ones leave room, the oldest at the latest after `BULK_PATIENCE`
                batches; while the queue is more than half full, they are turned away.

        Raises:
            TooLarge: a row, or all rows together, could never be accepted.
            Overloaded: the queue is full.
            Unavailable: the batcher is closed, or its loop died while the rows were waiting.
            DeadlineExceeded: the deadline passed first.
        """
        self.check_open(priority)
        self._check_size(rows, self.limit.of(priority))
        submission = Submission(
            asyncio.get_running_loop().create_future(), [None] * len(rows), len(rows), deadline, time.monotonic()
        )
        for index, row in enumerate(rows):
            self._queue.lanes[priority].push(Waiting(row, submission, index))
        self._arrived.set()
        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                return await submission.future
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the engine answered") from None
        finally:
            if submission.missing:  # whoever leaves makes room for others at once, not when a batch comes across the rows
                self._queue.drop(lambda one: one.submission is submission)

    async def aclose(self, drain_s: float = 0.0) -> None:
        """Take no more rows, give those accepted `drain_s` seconds to finish, then stop. Nobody is left waiting."""
        self._closed_because = self._closed_because or "the model is being unloaded"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while not self._loop.done() and (self._queue.num_rows or self._running):
                    self._idle.clear()
                    await self._idle.wait()
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        self._refuse_all("the model was unloaded before the engine answered")

    def _check_size(self, rows: Sequence[Row], limit: QueueLimit) -> None:
        total = sum(row.num_tokens for row in rows)
        longest = max(row.num_tokens for row in rows)
        if not self.budget.fits(longest):
            raise TooLarge(f"a row of {longest} tokens exceeds the batch budget of {self.budget.max_batch_tokens}")
        if len(rows) > limit.max_rows or total > limit.max_tokens:
            raise TooLarge(
                f"the request has {len(rows)} rows of {total} tokens in all; at most {limit.max_rows} rows"
                f" and {limit.max_tokens} tokens may wait"
            )
        if self._queue.num_rows + len(rows) > limit.max_rows or self._queue.num_tokens + total > limit.max_tokens:
            raise self._overloaded(total)

    def _overloaded(self, num_tokens: int) -> Overloaded:
        return Overloaded(
            f"{self._queue.num_rows} rows of {self._queue.num_tokens} tokens are waiting, which is all the queue takes",
            self._rate.seconds_for((self._queue.num_tokens + num_tokens) // 2),  # until half of it is worked off
        )

    async def _work(self) -> None:
        try:
            while True:
                await self._arrived.wait()
                self._running = self._next_batch()
                if self._running:
                    await self._execute(self._running)
                    self._running = []
                if not self._queue.num_rows:
                    self._arrived.clear()
                    self._idle.set()
        except BaseException:
            if self._closed_because is None:
                logger.critical("the batcher has died; its model answers nothing until it is loaded again", exc_info=True)
            raise
        finally:  # however the loop ends, nobody is left waiting
            self._closed_because = self._closed_because or "the engine is down"
            self._refuse_all(self._closed_because)
            self._idle.set()

    def _next_batch(self) -> list[Waiting]:
        """Rows to run now; those whose caller has left or whose deadline has passed are dropped first."""
        now = time.monotonic()
        if any(is_unwanted(one, now) for lane in self._queue.lanes.values() for one in lane.head()):
            self._queue.drop(lambda one: is_unwanted(one, now))
        return self._queue.next_batch(self.budget)

    async def _execute(self, batch: Sequence[Waiting]) -> None:
        now = time.monotonic()
        for one in batch:
            if one.submission.started is None:
                one.submission.started = now
        try:
            result = await self._run([one.row for one in batch])
        except HooperError as error:
            await self._isolate(batch, error)
            return
        self._account(batch, result)
        for submission in {id(one.submission): one.submission for one in batch}.values():
            submission.inference_s += result.inference_s
            submission.batch_rows = max(submission.batch_rows, len(batch))
        for one, output in zip(batch, result.outputs, strict=True):
            one.submission.answer(one.index, output)

    async def _run(self, rows: Sequence[Row]) -> RunResult:
        """The runner's result, with whatever it raises told as EngineFailed."""
        try:
            result = await self._runner.run(rows)
        except Exception as error:  # an engine's failure is its rows' failure, never the loop's
            raise EngineFailed(f"the engine failed on a batch of {len(rows)} rows ({type(error).__name__})") from error
        if len(result.outputs) != len(rows):
            raise EngineFailed(f"the engine gave {len(result.outputs)} outputs for {len(rows)} rows")
        return result

    async def _isolate(self, batch: Sequence[Waiting], error: HooperError) -> None:
        """Run the halves of a failed batch once more, so that one bad row fails alone."""
        if len(batch) == 1:
            batch[0].submission.answer(batch[0].index, error)
            return
        middle = len(batch) // 2
        await self._execute(batch[:middle])
        await self._execute(batch[middle:])

    def _account(self, batch: Sequence[Waiting], result: RunResult) -> None:
        num_tokens = sum(one.row.num_tokens for one in batch)
        self._rate.ran(num_tokens, result.inference_s)
        self._on_batch(BatchRan(len(batch), num_tokens, result.num_computed_tokens, result.inference_s))

    def _refuse_all(self, reason: str) -> None:
        for one in [*self._running, *self._queue.rows]:
            one.submission.refuse(Unavailable(reason))
        self._running = []
        self._queue = Queue()

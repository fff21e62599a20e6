"""The scheduler: rows of concurrent callers run together, and every accepted row is answered exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from app.batching.admission import DrainRate, QueueLimit, check_size, queue_is_full
from app.batching.events import BatchRan, Event, Reason, RowsDropped, Tell
from app.batching.execution import Execution
from app.batching.policy import Budget
from app.batching.queue import DEADLINE_PASSED, Queue, Submission, Waiting, unwanted_because
from app.batching.queue import SubmissionResult as SubmissionResult  # what `submit` returns
from app.batching.streams import Streams, Turn
from app.batching.watchdog import Runner
from app.core.errors import DeadlineExceeded, EngineLost, Overloaded, TooLarge, Unavailable
from app.core.types import Priority, Row

logger = logging.getLogger(__name__)


class Scheduler:
    """Work-conserving: a batch starts as soon as an engine is free and takes what is waiting; no timer.

    Invariant: a submission's future is completed exactly once, whatever happens to the engine, the loop or the caller.
    """

    def __init__(
        self,
        runner: Runner,
        budget: Budget,
        limit: QueueLimit,
        tell: Tell = lambda _: None,
        beside: Sequence[Runner] = (),
    ) -> None:
        """
        Args:
            runner: the engine, with every thread it may use.
            budget: what one batch may hold.
            limit: what may wait.
            tell: is told what happens.
            beside: engines that share the threads, for when at least as many rows wait; see `Streams`.
        """
        self.budget, self.limit = budget, limit
        self._tell = tell
        self._streams = Streams(runner, beside)
        self._execution = Execution(budget, self._hear)
        self._queue = Queue()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._rate = DrainRate()
        self._running: dict[asyncio.Task[None], list[Waiting]] = {}
        self._closed_because: str | None = None
        self.has_died = False
        self._loop = asyncio.create_task(self._work(), name="scheduler")

    @property
    def num_waiting_rows(self) -> int:
        return self._queue.num_rows

    @property
    def max_batch_tokens_now(self) -> int:
        """Tokens that a batch may cost now: less than the budget while memory is short."""
        return self._execution.budget.max_batch_tokens

    @property
    def num_waiting_tokens(self) -> int:
        return self._queue.num_tokens

    @property
    def is_alive(self) -> bool:
        """Whether a submission would be answered by the engine."""
        return self._closed_because is None and not self._loop.done()

    def check_open(self, priority: Priority = "interactive") -> None:
        """Refuse early, before a request is worth any work.

        Raises:
            Unavailable: the scheduler is closing or its loop has died.
            Overloaded: the queue is full already.
        """
        if not self.is_alive:
            raise Unavailable(self._closed_because or "the engine is down")
        overload = self.overload(priority)
        if overload is not None:
            raise overload

    def overload(self, priority: Priority = "interactive") -> Overloaded | None:
        """What everyone is refused with now; None where the queue has room, or the scheduler is closed."""
        is_full = self.limit.of(priority).is_reached(self._queue.num_rows, self._queue.num_tokens)
        return self._overloaded(0) if is_full and self.is_alive else None

    def retry_after_s(self, num_tokens: int = 0) -> float:
        """Seconds until half of what waits, and of these tokens more, is worked off."""
        return self._rate.seconds_for((self._queue.num_tokens + num_tokens) / 2)

    async def submit(
        self, rows: Sequence[Row], deadline: float | None = None, priority: Priority = "interactive"
    ) -> SubmissionResult:
        """Run rows, together with other callers' where that fits.

        Args:
            rows: at least one row, each within the budget.
            deadline: `time.monotonic()` seconds after which the caller no longer wants an answer.
            priority: `bulk` rows run where interactive ones leave room, the oldest at the latest after `BULK_PATIENCE`
                batches; while the queue is more than half full, they are turned away.

        Raises:
            TooLarge: a row, or all rows together, could never be accepted.
            Overloaded: the queue is full.
            Unavailable: the scheduler is closed, or its loop died while the rows were waiting.
            DeadlineExceeded: the deadline passed first.
        """
        self.check_open(priority)
        self._check_size(rows, self.limit.of(priority))
        submission = Submission(
            asyncio.get_running_loop().create_future(), [None] * len(rows), len(rows), deadline, time.monotonic()
        )
        for index, row in enumerate(rows):
            self._queue.lanes[priority].push(Waiting(row, submission, index))
        self._changed.set()
        reason: Reason = "client_left"
        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                return await submission.future
        except TimeoutError:
            reason = "deadline"
            raise DeadlineExceeded(DEADLINE_PASSED) from None
        except DeadlineExceeded:
            reason = "deadline"
            raise
        finally:
            self._drop(submission, reason)

    async def wait_closed(self) -> bool:
        """Wait until the loop has ended; whether it died, and was not closed."""
        await asyncio.wait((self._loop,))
        return self.has_died

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

    def _check_size(self, rows: Sequence[Row], limit: QueueLimit) -> None:
        total = sum(row.num_tokens for row in rows)
        longest = max(row.num_tokens for row in rows)
        if not self.budget.fits(longest):
            raise TooLarge(f"a row of {longest} tokens exceeds the batch budget of {self.budget.max_batch_tokens}")
        check_size(len(rows), total, limit)
        if self._queue.num_rows + len(rows) > limit.max_rows or self._queue.num_tokens + total > limit.max_tokens:
            raise self._overloaded(total)

    def _overloaded(self, num_tokens: int) -> Overloaded:
        return queue_is_full(self._queue.num_rows, self._queue.num_tokens, self.retry_after_s(num_tokens))

    async def _work(self) -> None:
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                self._end_batches()
                self._start_batches()
                if not self._queue.num_rows and not self._running:
                    self._idle.set()
        except BaseException as error:
            if self._closed_because is None:
                self.has_died = True
                self._closed_because = error.detail if isinstance(error, EngineLost) else "the engine is down"
                logger.critical(
                    "the scheduler has died (%s); its model answers nothing until it is loaded again",
                    self._closed_because,
                    exc_info=not isinstance(error, EngineLost),
                )
            raise
        finally:  # however the loop ends, nobody is left waiting
            self._closed_because = self._closed_because or "the engine is down"
            running = self._refuse_all(self._closed_because)
            self._idle.set()
            await asyncio.gather(*running, return_exceptions=True)

    def _end_batches(self) -> None:
        """
        Raises:
            EngineLost: an engine is gone; the rows of its batch have no answer yet.
        """
        for task in [task for task in self._running if task.done()]:
            task.result()
            del self._running[task]

    def _start_batches(self) -> None:
        """Give every engine that may take one a batch of what waits."""
        while self._queue.num_rows:
            turn = self._streams.take(self._execution.budget, self._queue.num_rows, self._queue.num_tokens)
            if turn is None:
                return
            batch = self._next_batch(turn.budget)
            if not batch:  # nobody wanted any of it any more
                self._streams.give_back(turn.runner)
                return
            self._start(turn, batch)

    def _start(self, turn: Turn, batch: list[Waiting]) -> None:
        def end(_: asyncio.Task[None]) -> None:
            self._streams.give_back(turn.runner)
            self._changed.set()

        task = asyncio.create_task(self._execution.run(turn.runner, batch))
        self._running[task] = batch
        task.add_done_callback(end)

    def _next_batch(self, budget: Budget) -> list[Waiting]:
        """Rows to run now; those whose caller has left or whose deadline has passed are dropped first."""
        now = time.monotonic()
        if any(unwanted_because(one, now) for lane in self._queue.lanes.values() for one in lane.head()):
            gone: Counter[Reason] = Counter(filter(None, (unwanted_because(one, now) for one in self._queue.rows)))
            self._queue.drop(lambda one: unwanted_because(one, now) is not None)
            for reason, num_rows in gone.items():
                self._hear(RowsDropped(num_rows, reason))
        return self._queue.next_batch(budget)

    def _drop(self, submission: Submission, reason: Reason) -> None:
        """Whoever leaves makes room for others at once, not when a batch comes across the rows."""
        num_rows = self._queue.drop(lambda one: one.submission is submission) if submission.missing else 0
        if num_rows:
            self._hear(RowsDropped(num_rows, reason))

    def _hear(self, event: Event) -> None:
        if isinstance(event, BatchRan):
            self._rate.ran(event.num_tokens, event.inference_s / max(1, self._streams.num_busy))
        self._tell(event)

    def _refuse_all(self, reason: str) -> list[asyncio.Task[None]]:
        """Refuse what waits and what runs; the runs, which have been given up."""
        running = list(self._running)
        for one in [*chain.from_iterable(self._running.values()), *self._queue.rows]:
            one.submission.refuse(Unavailable(reason))
        for task in running:
            task.cancel()
        self._queue, self._running = Queue(), {}
        return running

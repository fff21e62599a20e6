"""The scheduler of a deployment whose engine is in the engine process: rows go over, answers come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from app.batching.admission import queue_is_full
from app.batching.results import SubmissionResult
from app.core.errors import DeadlineExceeded, Overloaded, Unavailable
from app.core.types import Priority, Row
from app.ipc.described import Description, Load
from app.ipc.frames import Frame
from app.ipc.front_side import DOWN, FrontSide, Question
from app.ipc.messages import answer_from_blob, rows_to_blob

GRACE_S = 0.25
"""So long after the deadline the engine process, which knows it too, is waited for: it counts why rows were dropped."""


class RemoteScheduler:
    """Invariant: whoever submits gets one answer or one error, also when the engine process dies. Satisfies `RowQueue`."""

    def __init__(self, link: FrontSide, number: int, description: Description) -> None:
        """
        Args:
            link: to the engine process; the scheduler lives as long as its present connection.
            number: the deployment's, as the engine process counts.
            description: what the engine process says of it.
        """
        self.budget, self.limit = description.budget, description.limit
        self._link, self._number, self._channel = link, number, link.channel
        self.load = Load(max_batch_tokens=self.budget.max_batch_tokens)
        """How the queue stands; whoever hears of it sets it."""
        self._asking: set[Question] = set()
        self._idle, self._over = asyncio.Event(), asyncio.Event()
        self._closed_because: str | None = None

    @property
    def num_waiting_rows(self) -> int:
        return self.load.num_rows

    @property
    def num_waiting_tokens(self) -> int:
        return self.load.num_tokens

    @property
    def max_batch_tokens_now(self) -> int:
        return self.load.max_batch_tokens

    @property
    def is_alive(self) -> bool:
        return self._closed_because is None and not self.has_died

    @property
    def has_died(self) -> bool:
        """Whether its engine, or the process that holds it, is gone."""
        return not self.load.is_alive or self._channel is None or self._channel is not self._link.channel

    def retry_after_s(self, num_tokens: int = 0) -> float:
        return self.load.retry_after_s

    def check_open(self, priority: Priority = "interactive") -> None:
        """Refuse early, by what was last heard of the queue; the engine process has the last word.

        Raises:
            Unavailable: the engine is down, or the model is being unloaded.
            Overloaded: the queue was full some milliseconds ago.
        """
        if not self.is_alive:
            raise Unavailable(self._closed_because or DOWN)
        overload = self.overload(priority)
        if overload is not None:
            raise overload

    def overload(self, priority: Priority = "interactive") -> Overloaded | None:
        """What everyone is refused with, by what was last heard; None where the queue had room, or nobody would be answered."""
        load = self.load
        if not self.is_alive or not self.limit.of(priority).is_reached(load.num_rows, load.num_tokens):
            return None
        return queue_is_full(load.num_rows, load.num_tokens, load.retry_after_s)

    async def submit(
        self, rows: Sequence[Row], deadline: float | None = None, priority: Priority = "interactive"
    ) -> SubmissionResult:
        """As `Scheduler.submit`; deadlines mean the same there, since processes of one machine share the monotonic clock."""
        self.check_open(priority)
        lengths, blob = rows_to_blob(rows)
        question = self._link.ask("submit", [self._number, deadline, priority, lengths], blob, self._channel)
        self._asking.add(question)
        try:
            async with asyncio.timeout(None if deadline is None else deadline + GRACE_S - time.monotonic()):
                answer = await self._link.wait(question)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the engine answered") from None
        finally:
            self._asking.discard(question)
            if not self._asking:
                self._idle.set()
        return answer_from_blob(answer.body, answer.blob)

    async def wait_closed(self) -> bool:
        """Wait until it is closed, or `died` was called."""
        await self._over.wait()
        return self._closed_because is None

    def died(self) -> None:
        """Its engine process is gone; whoever was waiting has been told by the link."""
        self._over.set()

    async def aclose(self, drain_s: float = 0.0) -> None:
        """Take no more rows, give those asked `drain_s` seconds, then let go of the deployment."""
        self._closed_because = self._closed_because or "the model is being unloaded"
        try:
            async with asyncio.timeout(drain_s):
                while self._asking:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            for question in self._asking:
                question.refuse("the model was unloaded before the engine answered")
        self._link.tell(Frame("release", self._number), self._channel)
        self._over.set()

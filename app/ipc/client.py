"""A front end's side: it connects again and again, and rows that are submitted here are computed in the engine process."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.batching.admission import queue_is_full
from app.batching.results import DEADLINE_PASSED, StreamedStep, SubmissionResult
from app.core.errors import DeadlineExceeded, Overloaded, Unavailable
from app.core.types import Priority, Row
from app.ipc.channel import Channel, Frame
from app.ipc.messages import DeploymentInfo, QueueState, error_from_json, outputs_from_blob, result_from_blob, rows_to_blob

RETRY_S = 0.05
DOWN = "the engine is down"

GRACE_S = 0.25
"""So long after the deadline the engine process, which knows it too, is waited for: it counts why rows were dropped."""


class PendingCall:
    """A call to the engine process. Invariant: its future is completed once, by the answer or the end of the connection."""

    def __init__(self, number: int, channel: Channel, on_part: Callable[[Frame], None]) -> None:
        self.number, self.channel, self.on_part = number, channel, on_part
        self.future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

    def refuse(self, reason: str) -> None:
        if not self.future.done():
            self.future.set_exception(Unavailable(reason))


class EngineClient:
    """Invariant: no call outlives the connection that it was asked on."""

    def __init__(self, path: Path, name: str, on_message: Callable[[Frame], None], down: Callable[[], None]) -> None:
        """
        Args:
            name: what the engine process calls this one in its log.
            down: called when the engine process is gone.
        """
        self._path, self._name, self._on_message, self._down = path, name, on_message, down
        self._channel: Channel | None = None
        self._calls: dict[int, PendingCall] = {}
        self._numbers = itertools.count(1)
        self._lost = asyncio.Event()
        self._connecting = asyncio.create_task(self._stay_connected(), name="ipc")

    @property
    def channel(self) -> Channel | None:
        """The connection of now; None while there is none."""
        return self._channel

    def ask(
        self,
        kind: str,
        body: Any,
        blob: bytes = b"",
        channel: Channel | None = None,
        on_part: Callable[[Frame], None] = lambda _: None,
    ) -> PendingCall:
        """Ask; `wait` for the answer, or `abandon` it.

        Args:
            channel: the connection that it makes sense on; None: whichever there is.
            on_part: gets what comes before the answer.

        Raises:
            Unavailable: there is no such connection any more.
        """
        if self._channel is None or channel not in (None, self._channel):
            raise Unavailable(DOWN)
        call = PendingCall(next(self._numbers), self._channel, on_part)
        self._calls[call.number] = call
        self._channel.send(Frame(kind, call.number, body, blob))
        return call

    async def wait(self, call: PendingCall) -> Frame:
        """The answer; whoever is cancelled while waiting has abandoned the call.

        Raises:
            HooperError: what the engine process raised, or `Unavailable` where it is gone.
        """
        try:
            return await call.future
        finally:
            self._abandon(call)

    def tell(self, frame: Frame, channel: Channel | None) -> None:
        """Say something on this connection, where it is still the one."""
        if channel is not None and channel is self._channel:
            channel.send(frame)

    async def aclose(self) -> None:
        """Take leave."""
        self._connecting.cancel()
        await asyncio.gather(self._connecting, return_exceptions=True)
        if self._channel is not None:
            self._channel.send(Frame("goodbye"))
            self._channel.close()
            await self._lost.wait()

    def _abandon(self, call: PendingCall) -> None:
        if self._calls.pop(call.number, None) is not None:
            self.tell(Frame("cancel", call.number), call.channel)

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.create_unix_connection(self._make_channel, str(self._path))
            except OSError:  # it is not there yet, or not there again
                await asyncio.sleep(RETRY_S)
                continue
            await self._lost.wait()

    def _make_channel(self) -> Channel:
        return Channel(self._receive, self._on_lost, on_made=self._greet)

    def _greet(self, channel: Channel) -> None:
        self._lost.clear()
        self._channel = channel
        channel.send(Frame("hello", 0, self._name))

    def _receive(self, _: Channel, frame: Frame) -> None:
        if frame.kind in ("step", "written"):
            if frame.number in self._calls:
                self._calls[frame.number].on_part(frame)
            return
        if frame.kind not in ("answer", "error"):
            self._on_message(frame)
            return
        call = self._calls.pop(frame.number, None)
        if call is None or call.future.done():  # nobody waits for it any more
            return
        if frame.kind == "answer":
            call.future.set_result(frame)
        else:
            call.future.set_exception(error_from_json(frame.body))

    def _on_lost(self, _: Channel) -> None:
        self._channel = None
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.refuse(DOWN)
        self._lost.set()
        self._down()


@dataclass(frozen=True, slots=True)
class RemoteSampling:
    """How texts are to be written, as another process can be told."""

    num_rows: Sequence[int]
    """Of each item."""
    options: Mapping[str, Any]
    """Fields of the task's options."""
    prefix_owner: str | None
    """As of `SamplingParams`."""


class RemoteSubmission:
    """Rows that the engine process writes: to be awaited (`result`) or iterated (`stream`), once. Satisfies `RowsUnderWay`.

    Invariant: whoever leaves is reported to the engine process at once.
    """

    def __init__(
        self,
        ask: Callable[[bool, Callable[[Frame], None]], PendingCall],
        answer: Callable[[PendingCall], Coroutine[Any, Any, SubmissionResult]],
    ) -> None:
        """
        Args:
            ask: asks for the rows, with or without what each step gives, and names who gets what comes before the answer.
        """
        self.num_new_tokens = 0
        self.future: asyncio.Future[SubmissionResult] = asyncio.get_running_loop().create_future()
        self._ask, self._answer = ask, answer

    async def result(self) -> SubmissionResult:
        """Wait for every row.

        Raises:
            HooperError: what the engine process refuses the rows with, as a whole.
        """
        return await self._answer(self._ask(False, self._note))

    async def stream(self) -> AsyncGenerator[StreamedStep]:
        """What each step gives, as it comes; `future` has the result then.

        Raises:
            HooperError: as `result`.
        """
        steps = asyncio.Queue[StreamedStep | None]()

        def on_part(frame: Frame) -> None:
            self._note(frame)
            if frame.kind == "step":
                index, is_last, _, outputs = frame.body
                steps.put_nowait(StreamedStep(index, outputs_from_blob(outputs, frame.blob)[0], is_last))

        answering = asyncio.create_task(self._answer(self._ask(True, on_part)), name="written elsewhere")
        answering.add_done_callback(lambda _: steps.put_nowait(None))
        try:
            while (step := await steps.get()) is not None:
                yield step
            self.future.set_result(answering.result())
        finally:
            if not answering.cancel() and not answering.cancelled():
                answering.exception()  # taken note of, whoever left before it was told

    def _note(self, frame: Frame) -> None:
        self.num_new_tokens = frame.body if frame.kind == "written" else frame.body[2]


class RemoteScheduler:
    """Invariant: whoever submits gets one answer or one error, also when the engine process dies. Satisfies `RowQueue`."""

    def __init__(self, client: EngineClient, number: int, info: DeploymentInfo) -> None:
        """
        Args:
            client: to the engine process; the scheduler lives as long as its present connection.
            number: the deployment's, as the engine process counts.
        """
        self.budget, self.limit = info.budget, info.limit
        self._client, self._number, self._channel = client, number, client.channel
        self.load = QueueState(max_batch_tokens=self.budget.max_batch_tokens)
        """How the queue stands; whoever hears of it sets it."""
        self._calls: set[PendingCall] = set()
        self._idle, self._over = asyncio.Event(), asyncio.Event()
        self._closed_reason: str | None = None

    @property
    def num_waiting_rows(self) -> int:
        return self.load.num_rows

    @property
    def num_waiting_tokens(self) -> int:
        return self.load.num_tokens

    @property
    def cache_rows(self) -> None:
        """The engine process tells the metrics of its cache."""

    @property
    def max_batch_tokens_now(self) -> int:
        return self.load.max_batch_tokens

    @property
    def is_alive(self) -> bool:
        return self._closed_reason is None and not self.has_died

    @property
    def has_died(self) -> bool:
        """Whether its engine, or the process that holds it, is gone."""
        return not self.load.is_alive or self._channel is None or self._channel is not self._client.channel

    def retry_after_s(self, num_tokens: int = 0) -> float:
        return self.load.retry_after_s

    def check_open(self, priority: Priority = "interactive") -> None:
        """Refuse early, by what was last heard of the queue; the engine process has the last word.

        Raises:
            Unavailable: the engine is down, or the model is being unloaded.
            Overloaded: the queue was full some milliseconds ago.
        """
        if not self.is_alive:
            raise Unavailable(self._closed_reason or DOWN)
        overload = self.overload(priority)
        if overload is not None:
            raise overload

    def overload(self, priority: Priority = "interactive") -> Overloaded | None:
        """What everyone is refused with, by what was last heard; None where the queue had room, or nobody would be answered."""
        load = self.load
        if not self.is_alive or not self.limit.of(priority).is_reached(load.num_rows, load.num_tokens):
            return None
        return queue_is_full(load.num_rows, load.num_tokens, load.retry_after_s)

    def start(
        self, rows: Sequence[Row], deadline: float | None = None, priority: Priority = "interactive", sampling: Any = None
    ) -> RemoteSubmission:
        """As `Scheduler.start`, but what the engine process refuses is told by the submission.

        Args:
            sampling: a `RemoteSampling`.
        """
        self.check_open(priority)
        lengths, blob = rows_to_blob(rows)
        body = [self._number, deadline, priority, lengths, sampling.num_rows, sampling.options, sampling.prefix_owner]

        def ask(is_streamed: bool, on_part: Callable[[Frame], None]) -> PendingCall:
            return self._client.ask("write", [*body, is_streamed], blob, self._channel, on_part)

        return RemoteSubmission(ask, lambda call: self._answer(call, deadline))

    async def submit(
        self, rows: Sequence[Row], deadline: float | None = None, priority: Priority = "interactive", sampling: Any = None
    ) -> SubmissionResult:
        """As `Scheduler.submit`; deadlines mean the same there, since processes of one machine share the monotonic clock."""
        if sampling is not None:
            return await self.start(rows, deadline, priority, sampling).result()
        self.check_open(priority)
        lengths, blob = rows_to_blob(rows)
        call = self._client.ask("submit", [self._number, deadline, priority, lengths], blob, self._channel)
        return await self._answer(call, deadline)

    async def _answer(self, call: PendingCall, deadline: float | None) -> SubmissionResult:
        self._calls.add(call)
        try:
            async with asyncio.timeout(None if deadline is None else deadline + GRACE_S - time.monotonic()):
                answer = await self._client.wait(call)
        except TimeoutError:
            raise DeadlineExceeded(DEADLINE_PASSED) from None
        finally:
            self._calls.discard(call)
            if not self._calls:
                self._idle.set()
        return result_from_blob(answer.body, answer.blob)

    async def wait_closed(self) -> bool:
        """Wait until it is closed, or `died` was called."""
        await self._over.wait()
        return self._closed_reason is None

    def died(self) -> None:
        """Its engine process is gone; whoever was waiting has been told by the client already."""
        self._over.set()

    async def aclose(self, drain_s: float = 0.0) -> None:
        """Take no more rows, give those asked `drain_s` seconds, then let go of the deployment."""
        self._closed_reason = self._closed_reason or "the model is being unloaded"
        try:
            async with asyncio.timeout(drain_s):
                while self._calls:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            for call in self._calls:
                call.refuse("the model was unloaded before the engine answered")
        self._client.tell(Frame("release", self._number), self._channel)
        self._over.set()

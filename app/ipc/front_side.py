"""A front end's side of the link: it connects again and again, asks, and is told at once when the engine process is gone."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.core.errors import Unavailable
from app.ipc.channel import Channel
from app.ipc.frames import Frame
from app.ipc.messages import error_from_json

RETRY_S = 0.05
DOWN = "the engine is down"

logger = logging.getLogger(__name__)


class Question:
    """Something asked of the engine process. Invariant: its future is completed once, by the answer or the end of the link."""

    def __init__(self, number: int, channel: Channel) -> None:
        self.number, self.channel = number, channel
        self.future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

    def refuse(self, reason: str) -> None:
        if not self.future.done():
            self.future.set_exception(Unavailable(reason))


class FrontSide:
    """Invariant: no question outlives the connection that it was asked on."""

    def __init__(self, path: Path, name: str, hear: Callable[[Frame], None], down: Callable[[], None]) -> None:
        """
        Args:
            path: the engine process's socket.
            name: what the engine process calls this one in its log.
            hear: gets what the engine process says unasked.
            down: called when the engine process is gone.
        """
        self._path, self._name, self._hear, self._down = path, name, hear, down
        self._channel: Channel | None = None
        self._questions: dict[int, Question] = {}
        self._numbers = itertools.count(1)
        self._lost = asyncio.Event()
        self._connecting = asyncio.create_task(self._stay_connected(), name="link")

    @property
    def channel(self) -> Channel | None:
        """The connection of now; None while there is none."""
        return self._channel

    def ask(self, kind: str, body: Any, blob: bytes = b"", channel: Channel | None = None) -> Question:
        """Ask; `wait` for the answer, or `abandon` it.

        Args:
            kind, body, blob: of the frame.
            channel: the connection that it makes sense on; None: whichever there is.

        Raises:
            Unavailable: there is no such connection any more.
        """
        if self._channel is None or channel not in (None, self._channel):
            raise Unavailable(DOWN)
        question = Question(next(self._numbers), self._channel)
        self._questions[question.number] = question
        self._channel.send(Frame(kind, question.number, body, blob))
        return question

    async def wait(self, question: Question) -> Frame:
        """The answer; whoever is cancelled while waiting has abandoned the question.

        Raises:
            HooperError: what the engine process raised, or `Unavailable` where it is gone.
        """
        try:
            return await question.future
        finally:
            self._abandon(question)

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

    def _abandon(self, question: Question) -> None:
        if self._questions.pop(question.number, None) is not None:
            self.tell(Frame("cancel", question.number), question.channel)

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
        return Channel(self._receive, self._lose, on_made=self._greet)

    def _greet(self, channel: Channel) -> None:
        self._lost.clear()
        self._channel = channel
        channel.send(Frame("hello", 0, self._name))

    def _receive(self, _: Channel, frame: Frame) -> None:
        if frame.kind not in ("answer", "error"):
            self._hear(frame)
            return
        question = self._questions.pop(frame.number, None)
        if question is None or question.future.done():  # nobody waits for it any more
            return
        if frame.kind == "answer":
            question.future.set_result(frame)
        else:
            question.future.set_exception(error_from_json(frame.body))

    def _lose(self, _: Channel) -> None:
        self._channel = None
        questions, self._questions = self._questions, {}
        for question in questions.values():
            question.refuse(DOWN)
        self._lost.set()
        self._down()

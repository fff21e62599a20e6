"""One front end, as the engine process sees it: what it was told, what it asks, and what it holds on to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from app.core.errors import EngineFailed, HooperError, Unavailable
from app.ipc.channel import Channel
from app.ipc.described import Description, Load, State
from app.ipc.frames import Frame
from app.ipc.messages import answer_to_blob, error_to_json, rows_from_blob
from app.serving.deployment import Deployment
from app.serving.registry import Standing
from app.serving.rollout.lease import LiveVersion

logger = logging.getLogger(__name__)

Lease = Callable[[Deployment], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Listed:
    """What is loaded: versions by number, as of so many changes."""

    generation: int
    versions: Mapping[int, LiveVersion]
    is_loaded: bool
    standing: Standing = Standing()  # noqa: RUF009  # frozen

    def to_json(self) -> list[Any]:
        roles = [[number, one.role.name, one.role.share] for number, one in self.versions.items()]
        return [self.generation, roles, self.is_loaded, self.standing.to_json()]


class Peer:
    """Invariant: a question gets one answer, or its front end is gone; then its rows leave the queue and its leases end."""

    def __init__(self, channel: Channel, name: str, lease: Lease, stir: Callable[[], None]) -> None:
        """
        Args:
            channel: to the front end.
            name: what the log calls it.
            lease: keeps a deployment open.
            stir: called when a queue may have changed.
        """
        self.name, self.generation = name, 0
        self.has_said_goodbye = False
        self._channel, self._lease, self._stir = channel, lease, stir
        self._held: dict[int, tuple[Deployment, ExitStack]] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._told = State({})

    @property
    def num_asking(self) -> int:
        return len(self._asking)

    def tell_models(self, listed: Listed) -> None:
        """What is loaded now; what it has not heard of yet is described, and leased until it lets go."""
        for number, version in listed.versions.items():
            if number not in self._held:
                deployment = version.deployment
                stack = ExitStack()
                stack.enter_context(self._lease(deployment))
                self._held[number] = deployment, stack
                description = Description.of(deployment).to_json()
                self._channel.send(Frame("model", number, description, deployment.tokenizer.encode()))
        self._channel.send(Frame("models", 0, listed.to_json()))

    def tell_state(self, is_settled: bool, fatal_error: str) -> None:
        """How things stand, where that has changed."""
        loads = {number: Load.of(deployment) for number, (deployment, _) in self._held.items()}
        state = State(loads, is_settled, fatal_error)
        if state != self._told:
            self._told = state
            self._channel.send(Frame("state", 0, state.to_json()))

    def ask(self, number: int, answering: Callable[[], Awaitable[Frame]]) -> None:
        """Answer a question with the frame that comes of it, or with the error."""
        task = asyncio.create_task(self._answer(number, answering))
        self._asking[number] = task
        task.add_done_callback(lambda _: self._forget(number))

    async def submit(self, frame: Frame) -> Frame:
        held, deadline, priority, lengths = frame.body
        if held not in self._held:
            raise Unavailable("the model was unloaded")
        deployment, _ = self._held[held]
        answered = await deployment.scheduler.submit(rows_from_blob(lengths, frame.blob), deadline, priority)
        body, blob = answer_to_blob(answered)
        return Frame("answer", frame.number, body, blob)

    def cancel(self, number: int) -> None:
        """Whoever asked does not want to know any more."""
        if number in self._asking:
            self._asking[number].cancel()

    def let_go(self, number: int) -> None:
        """It asks this deployment nothing more."""
        if number in self._held:
            self._held.pop(number)[1].close()

    def is_gone(self) -> None:
        """Nobody is there to be answered."""
        for task in list(self._asking.values()):
            task.cancel()
        for number in list(self._held):
            self.let_go(number)

    async def _answer(self, number: int, answering: Callable[[], Awaitable[Frame]]) -> None:
        try:
            answer = await answering()
        except HooperError as error:
            answer = Frame("error", number, error_to_json(error))
        except Exception as error:  # a question that cannot be understood must not be left without an answer
            logger.exception("a front end's question failed")
            answer = Frame("error", number, error_to_json(EngineFailed(f"the engine process failed ({type(error).__name__})")))
        self._channel.send(answer)

    def _forget(self, number: int) -> None:
        self._asking.pop(number, None)
        self._stir()


def body_of(published: Deployment) -> dict[str, Any]:
    return {"name": published.manifest.name, "version": published.manifest.version}

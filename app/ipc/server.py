"""The engine process's side: front ends come and go, and all of them know the same models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, aclosing
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from app.core.errors import EngineFailed, HooperError, Unavailable
from app.ipc.channel import Channel, Frame
from app.ipc.messages import (
    DeploymentInfo,
    DeploymentList,
    EngineState,
    QueueState,
    error_to_json,
    outputs_to_blob,
    result_to_blob,
    rows_from_blob,
)
from app.serving.deployment import Deployment
from app.serving.interfaces import RowsUnderWay
from app.serving.registry import Registry
from app.serving.rollout.lease import Role

COALESCE_S = 0.02
"""How long a change of a queue may wait to be sent, so that a busy queue is not sent at every request."""
WRITTEN_S = 0.25
"""How often a front end is told how much of a text was written that is not streamed."""
POLL_S = 1.0
"""How often what nobody announces is looked at: an engine that was lost or has memory again."""

logger = logging.getLogger(__name__)

Lease = Callable[[Deployment], AbstractContextManager[object]]


class ClientSession:
    """Invariant: a call gets one answer, or its front end is gone; then its rows leave the queue and its leases end."""

    def __init__(self, channel: Channel, name: str, lease: Lease, schedule_update: Callable[[], None]) -> None:
        """
        Args:
            schedule_update: called when a queue may have changed.
        """
        self.name, self.generation = name, 0
        self.said_goodbye = False
        self._channel, self._lease, self._schedule_update = channel, lease, schedule_update
        self._held: dict[int, tuple[Deployment, ExitStack]] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._sent_state = EngineState({})

    @property
    def num_calls(self) -> int:
        return len(self._calls)

    def send_models(self, deployments: DeploymentList) -> None:
        """What is loaded now; what it has not heard of yet is described, and leased until it lets go."""
        for number, version in deployments.versions.items():
            if number not in self._held:
                deployment = version.deployment
                stack = ExitStack()
                stack.enter_context(self._lease(deployment))
                self._held[number] = deployment, stack
                self._channel.send(Frame("model", number, *DeploymentInfo.of(deployment).to_blob()))
        self._channel.send(Frame("models", 0, deployments.to_json()))

    def send_state(self, all_ready: bool, fatal_error: str) -> None:
        """How things stand, where that has changed."""
        loads = {number: QueueState.of(deployment) for number, (deployment, _) in self._held.items()}
        state = EngineState(loads, all_ready, fatal_error)
        if state != self._sent_state:
            self._sent_state = state
            self._channel.send(Frame("state", 0, state.to_json()))

    def ask(self, number: int, answering: Callable[[], Awaitable[Frame]]) -> None:
        """Answer a call with the frame that comes of it, or with the error."""
        task = asyncio.create_task(self._answer(number, answering))
        self._calls[number] = task
        task.add_done_callback(lambda _: self._forget(number))

    async def submit(self, frame: Frame) -> Frame:
        number, deadline, priority, lengths = frame.body
        rows = rows_from_blob(lengths, frame.blob)
        result = await self._deployment(number).scheduler.submit(rows, deadline, priority)
        return Frame("answer", frame.number, *result_to_blob(result))

    async def write(self, frame: Frame) -> Frame:
        """Have rows written; what each step gives is sent as a "step" where that is wanted, and how much was written until now
        now and then where not, so that whoever leaves before the end is known to have had it."""
        number, deadline, priority, lengths, num_rows, fields, prefix_owner, is_streamed = frame.body
        deployment = self._deployment(number)
        options = _reader_of(deployment.spec.options).validate_python(fields)  # type: ignore[arg-type]  # classes have a hash
        rows = rows_from_blob(lengths, frame.blob)
        submission = await deployment.start(rows, num_rows, options, deadline, priority, prefix_owner)
        if is_streamed:
            async with aclosing(submission.stream()) as steps:
                async for step in steps:
                    outputs, blob = outputs_to_blob([step.output])
                    body = [step.index, step.is_last, submission.num_new_tokens, outputs]
                    self._channel.send(Frame("step", frame.number, body, blob))
            result = submission.future.result()
        else:
            telling = asyncio.create_task(self._tell_written(frame.number, submission))
            try:
                result = await submission.result()
            finally:
                telling.cancel()
        self._channel.send(Frame("written", frame.number, submission.num_new_tokens))
        return Frame("answer", frame.number, *result_to_blob(result))

    async def _tell_written(self, number: int, submission: RowsUnderWay) -> None:
        while True:
            await asyncio.sleep(WRITTEN_S)
            self._channel.send(Frame("written", number, submission.num_new_tokens))

    def _deployment(self, number: int) -> Deployment:
        if number not in self._held:
            raise Unavailable("the model was unloaded")
        return self._held[number][0]

    def cancel(self, number: int) -> None:
        """Whoever asked does not want to know any more."""
        if number in self._calls:
            self._calls[number].cancel()

    def release(self, number: int) -> None:
        """It asks this deployment nothing more."""
        if number in self._held:
            self._held.pop(number)[1].close()

    def close(self) -> None:
        """Nobody is there to be answered."""
        for task in list(self._calls.values()):
            task.cancel()
        for number in list(self._held):
            self.release(number)

    async def _answer(self, number: int, answering: Callable[[], Awaitable[Frame]]) -> None:
        try:
            answer = await answering()
        except HooperError as error:
            answer = Frame("error", number, error_to_json(error))
        except Exception as error:  # a call that cannot be understood must not be left without an answer
            logger.exception("a front end's call failed")
            answer = Frame("error", number, error_to_json(EngineFailed(f"the engine process failed ({type(error).__name__})")))
        self._channel.send(answer)

    def _forget(self, number: int) -> None:
        self._calls.pop(number, None)
        self._schedule_update()


@cache
def _reader_of(options: type[Any]) -> TypeAdapter[Any]:
    """Of a task's options: making one takes longer than reading with it."""
    return TypeAdapter(options)


def version_body(deployment: Deployment) -> dict[str, Any]:
    return {"name": deployment.manifest.name, "version": deployment.manifest.version}


class EngineServer:
    """Invariant: a front end knows every deployment that it may ask, and none of those closes before it has let go of it."""

    def __init__(
        self,
        registry: Registry,
        load: Callable[[str, int | None, Role], Awaitable[Deployment]],
        num_front_ends: int,
        promote: Callable[[str], Awaitable[Deployment]],
    ) -> None:
        """
        Args:
            registry: what is loaded; its `on_change` is taken.
            load: loads a version from the repository, for a role behind its name.
            num_front_ends: how many must have followed before requests are said to be answered.
            promote: makes a candidate the main version.
        """
        self._registry, self._load, self._promote, self._num_front_ends = registry, load, promote, num_front_ends
        self._sessions: dict[Channel, ClientSession] = {}
        self._deployments = DeploymentList(0, {}, False)
        self._last_number = 0
        self._all_ready = False
        self._update_timer: asyncio.TimerHandle | None = None
        self._acked = asyncio.Event()
        self._server: asyncio.Server | None = None
        registry.on_change = self._change
        self._change()

    async def listen(self, path: Path) -> None:
        """Accept front ends on this socket."""
        await asyncio.to_thread(path.unlink, missing_ok=True)  # a predecessor's
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Channel(self._on_message, self._on_lost), path)
        self._poll()

    async def aclose(self) -> None:
        """Accept no more, and close what is open; what is being asked is not answered."""
        self._registry.on_change = lambda: None
        if self._server is not None:
            self._server.close()
        for channel in list(self._sessions):
            channel.close()
        if self._update_timer is not None:
            self._update_timer.cancel()

    # --- what changes

    def _change(self) -> None:
        number_of = {version.deployment: number for number, version in self._deployments.versions.items()}
        versions = {number_of.get(live.deployment) or self._next_number(): live for live in self._registry.live}
        self._deployments = DeploymentList(
            self._deployments.generation + 1, versions, self._registry.is_loaded, self._registry.standing
        )
        for session in self._sessions.values():
            session.send_models(self._deployments)
        self._schedule_update()

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _schedule_update(self) -> None:
        if self._update_timer is None and self._sessions:
            self._update_timer = asyncio.get_running_loop().call_later(COALESCE_S, self._send_update)

    def _send_update(self) -> None:
        self._update_timer = None
        if not self._all_ready and self._deployments.is_loaded:
            self._all_ready = self._num_acks(self._deployments.generation) >= self._num_front_ends
            if self._all_ready:
                logger.info("%d front ends are ready", self._num_front_ends)
        for session in self._sessions.values():
            session.send_state(self._all_ready, self._registry.fatal_error)

    def _poll(self) -> None:
        if self._server is not None and self._server.is_serving():
            self._schedule_update()
            asyncio.get_running_loop().call_later(POLL_S, self._poll)

    def _num_acks(self, generation: int) -> int:
        return sum(session.generation >= generation for session in self._sessions.values())

    # --- what front ends say

    def _on_message(self, channel: Channel, frame: Frame) -> None:
        if frame.kind == "hello":
            self._sessions[channel] = session = ClientSession(channel, frame.body, self._leased, self._schedule_update)
            session.send_models(self._deployments)
            self._schedule_update()
            return
        session = self._sessions[channel]
        handlers = {
            "submit": session.submit, "write": session.write, "load": self._on_load, "promote": self._on_promote,
            "unload": self._on_unload,
        }  # fmt: skip
        if frame.kind in handlers:
            session.ask(frame.number, lambda: handlers[frame.kind](frame))
            return
        match frame.kind:
            case "ping":
                channel.send(Frame("answer", frame.number))
            case "cancel":
                session.cancel(frame.number)
            case "release":
                session.release(frame.number)
            case "ack":
                session.generation = frame.body
                self._on_ack()
            case "goodbye":
                session.said_goodbye = True

    def _on_lost(self, channel: Channel) -> None:
        session = self._sessions.pop(channel, None)
        if session is None:
            return
        if not session.said_goodbye:
            logger.error("%s is gone; %d calls of it are dropped", session.name, session.num_calls)
        session.close()
        self._on_ack()

    def _on_ack(self) -> None:
        self._acked.set()
        self._acked = asyncio.Event()
        self._schedule_update()

    def _leased(self, deployment: Deployment) -> AbstractContextManager[object]:
        manifest = deployment.manifest
        return self._registry.lease((), f"{manifest.name}/{manifest.version}")

    async def _on_load(self, frame: Frame) -> Frame:
        name, version, role, share = frame.body
        deployment = await self._load(name, version, Role(role, share))
        await self._wait_for_acks()
        return Frame("answer", frame.number, version_body(deployment))

    async def _on_promote(self, frame: Frame) -> Frame:
        deployment = await self._promote(frame.body)
        await self._wait_for_acks()
        return Frame("answer", frame.number, version_body(deployment))

    async def _on_unload(self, frame: Frame) -> Frame:
        self._registry.remove(*frame.body)
        await self._wait_for_acks()
        return Frame("answer", frame.number)

    async def _wait_for_acks(self) -> None:
        generation = self._deployments.generation
        while self._num_acks(generation) < len(self._sessions):
            await self._acked.wait()

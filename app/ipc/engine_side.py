"""The engine process's side of the link: front ends come and go, and all of them know the same models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path

from app.ipc.channel import Channel
from app.ipc.frames import Frame
from app.ipc.peer import Listed, Peer, body_of
from app.serving.deployment import Deployment
from app.serving.registry import Registry
from app.serving.rollout.lease import Role

COALESCE_S = 0.02
"""How long a change of a queue may go untold, so that a busy one is not told at every request."""
POLL_S = 1.0
"""How often what nobody announces is looked at: an engine that was lost or has memory again."""

logger = logging.getLogger(__name__)


class EngineSide:
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
        self._peers: dict[Channel, Peer] = {}
        self._listed = Listed(0, {}, False)
        self._last_number = 0
        self._is_settled = False
        self._telling: asyncio.TimerHandle | None = None
        self._moved = asyncio.Event()
        self._server: asyncio.Server | None = None
        registry.on_change = self._change
        self._change()

    async def listen(self, path: Path) -> None:
        """Accept front ends on this socket."""
        await asyncio.to_thread(path.unlink, missing_ok=True)  # a predecessor's
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Channel(self._hear, self._lose), path)
        self._poll()

    async def aclose(self) -> None:
        """Accept no more, and close what is open; what is being asked is not answered."""
        self._registry.on_change = lambda: None
        if self._server is not None:
            self._server.close()
        for channel in list(self._peers):
            channel.close()
        if self._telling is not None:
            self._telling.cancel()

    # --- what changes

    def _change(self) -> None:
        known = {one.deployment: number for number, one in self._listed.versions.items()}
        versions = {known.get(one.deployment) or self._next_number(): one for one in self._registry.live}
        self._listed = Listed(self._listed.generation + 1, versions, self._registry.is_loaded, self._registry.standing)
        for peer in self._peers.values():
            peer.tell_models(self._listed)
        self._stir()

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _stir(self) -> None:
        if self._telling is None and self._peers:
            self._telling = asyncio.get_running_loop().call_later(COALESCE_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        if not self._is_settled and self._listed.is_loaded:
            self._is_settled = self._num_followed(self._listed.generation) >= self._num_front_ends
            if self._is_settled:
                logger.info("%d front ends are ready", self._num_front_ends)
        for peer in self._peers.values():
            peer.tell_state(self._is_settled, self._registry.fatal_error)

    def _poll(self) -> None:
        if self._server is not None and self._server.is_serving():
            self._stir()
            asyncio.get_running_loop().call_later(POLL_S, self._poll)

    def _num_followed(self, generation: int) -> int:
        return sum(peer.generation >= generation for peer in self._peers.values())

    # --- what front ends say

    def _hear(self, channel: Channel, frame: Frame) -> None:
        if frame.kind == "hello":
            self._peers[channel] = peer = Peer(channel, frame.body, self._leased, self._stir)
            peer.tell_models(self._listed)
            self._stir()
            return
        peer = self._peers[channel]
        asked = {"submit": peer.submit, "load": self._loaded, "promote": self._promoted, "unload": self._unloaded}
        if frame.kind in asked:
            peer.ask(frame.number, lambda: asked[frame.kind](frame))
            return
        match frame.kind:
            case "ping":
                channel.send(Frame("answer", frame.number))
            case "cancel":
                peer.cancel(frame.number)
            case "release":
                peer.let_go(frame.number)
            case "followed":
                peer.generation = frame.body
                self._move()
            case "goodbye":
                peer.has_said_goodbye = True

    def _lose(self, channel: Channel) -> None:
        peer = self._peers.pop(channel, None)
        if peer is None:
            return
        if not peer.has_said_goodbye:
            logger.error("%s is gone; it had asked %d questions, which are dropped", peer.name, peer.num_asking)
        peer.is_gone()
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
        self._stir()

    def _leased(self, deployment: Deployment) -> AbstractContextManager[object]:
        manifest = deployment.manifest
        return self._registry.lease((), f"{manifest.name}/{manifest.version}")

    async def _loaded(self, frame: Frame) -> Frame:
        name, version, role, share = frame.body
        deployment = await self._load(name, version, Role(role, share))
        await self._until_all_have_followed()
        return Frame("answer", frame.number, body_of(deployment))

    async def _promoted(self, frame: Frame) -> Frame:
        deployment = await self._promote(frame.body)
        await self._until_all_have_followed()
        return Frame("answer", frame.number, body_of(deployment))

    async def _unloaded(self, frame: Frame) -> Frame:
        self._registry.remove(*frame.body)
        await self._until_all_have_followed()
        return Frame("answer", frame.number)

    async def _until_all_have_followed(self) -> None:
        generation = self._listed.generation
        while self._num_followed(generation) < len(self._peers):
            await self._moved.wait()

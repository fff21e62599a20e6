"""Front ends and an engine process's side of the link in one event loop, over a real socket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

from app.core.errors import UnknownModel
from app.ipc.registry import RegistryFollower
from app.ipc.server import EngineServer
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment
from app.serving.registry import Registry
from app.serving.rollout.lease import Role


async def until(is_so: Callable[[], bool]) -> None:
    """Let everything run until it is so; a test in which it never is runs into its time limit."""
    while not is_so():  # noqa: ASYNC110 - what it waits for comes over sockets, and has no event of its own
        await asyncio.sleep(0)


class IpcPair:
    """An engine process's side, whose models a test puts in, and front ends that a test opens and kills."""

    def __init__(self, folder: Path, num_front_ends: int) -> None:
        self.path = folder / "engine.sock"
        self.num_front_ends = num_front_ends
        self.followers: list[RegistryFollower] = []
        self.loadable: dict[str, Callable[[], Deployment]] = {}
        self._numbers = itertools.count(1)
        self.registry, self.side = self._new_engine()

    def _new_engine(self) -> tuple[Registry, EngineServer]:
        registry = Registry(drain_s=1000)  # whoever holds a lease too long is to be noticed

        async def load(name: str, version: int | None, role: Role) -> Deployment:
            if name not in self.loadable:
                raise UnknownModel(f"there is no model {name}")
            deployment = self.loadable[name]()
            if role.name == "main":
                registry.replace(deployment)
            else:
                registry.run_beside(deployment, role)
            return deployment

        async def promote(name: str) -> Deployment:
            return registry.promote(name)

        return registry, EngineServer(registry, load, self.num_front_ends, promote)

    async def listen(self) -> None:
        await self.side.listen(self.path)

    async def restart_engine(self) -> None:
        """Another engine process, with nothing loaded yet, in the place of this one, which ends without a word."""
        await self.side.aclose()
        await until(lambda: not any(follower.registry.is_connected for follower in self.followers))
        self.registry, self.side = self._new_engine()
        await self.listen()

    def open(self, give_up: Callable[[], None] = lambda: None) -> RegistryFollower:
        follower = RegistryFollower(self.path, f"front end {next(self._numbers)}", 5, Metrics(), give_up)
        self.followers.append(follower)
        return follower

    async def ready(self, *deployments: Deployment) -> list[RegistryFollower]:
        """As many front ends as there are to be, all of them ready to answer from these."""
        for deployment in deployments:
            self.registry.replace(deployment)
        self.registry.loading_finished()
        followers = [self.open() for _ in range(self.num_front_ends)]
        await until(lambda: all(follower.registry.is_ready for follower in followers))
        return followers

    def kill(self, follower: RegistryFollower) -> None:
        """End it as SIGKILL does: its connection closes, and nobody says why."""
        follower._client._connecting.cancel()
        channel = follower._client.channel
        assert channel is not None
        channel.close()

    async def aclose(self) -> None:
        for follower in self.followers:
            await follower.aclose()
        await self.side.aclose()
        await self.registry.aclose()

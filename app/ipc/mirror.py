"""A front end's registry: deployments that answer through the link, kept equal to what the engine process has loaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from app.core.errors import Unavailable, UnknownModel
from app.ipc.described import Description, State
from app.ipc.frames import Frame
from app.ipc.front_side import DOWN, FrontSide
from app.ipc.remote_scheduler import RemoteScheduler
from app.observability.metrics import Metrics
from app.runtime.providers import Provider
from app.serving.deployment import Deployment
from app.serving.drift import Drift
from app.serving.registry import Registry, Standing
from app.serving.rollout.lease import MAIN, Role
from app.tasks.base import Task
from app.tasks.registry import Tasks, installed_tasks
from app.tasks.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RemoteEngine:
    """What computes elsewhere, as the engine process told of it. Satisfies `EngineInfo`."""

    provider: Provider
    execution_providers: list[str]
    num_threads: int

    async def aclose(self, patience_s: float | None = None) -> None:
        """Nothing: whoever has it closes it."""


class MirrorRegistry(Registry):
    """Ready when the engine process is, and when every other front end is too."""

    state = State({})
    is_connected = False

    @property
    def not_ready_reason(self) -> str:
        return DOWN if self.is_loaded and not self.is_connected else super().not_ready_reason

    @property
    def is_ready(self) -> bool:
        return super().is_ready and self.is_connected and self.state.is_settled


@dataclass(frozen=True, slots=True)
class _Wanted:
    generation: int
    roles: Mapping[int, Role]
    """By the deployment's number, main versions before their candidates."""
    is_loaded: bool
    standing: Standing


class Mirror:
    """Invariant: after "followed" is said, the registry holds the deployments of the engine process's list, and no others."""

    def __init__(
        self,
        path: Path,
        name: str,
        drain_s: float,
        metrics: Metrics,
        give_up: Callable[[], None] = lambda: None,
        tasks: Tasks | None = None,
    ) -> None:
        """
        Args:
            path: the engine process's socket.
            name: what the engine process calls this one in its log.
            drain_s: seconds that requests get when their deployment is replaced.
            metrics: of this process.
            give_up: called when the list cannot be followed.
            tasks: those that the engine process has, too; None: all that are installed.
        """
        self.registry = MirrorRegistry(drain_s)
        self._metrics, self._give_up = metrics, give_up
        self._tasks = installed_tasks() if tasks is None else tasks
        self._described: dict[int, tuple[Description, str]] = {}
        self._live: dict[int, Deployment] = {}
        self._schedulers: WeakValueDictionary[int, RemoteScheduler] = WeakValueDictionary()
        self._wanted: _Wanted | None = None
        self._changed, self.has_followed = asyncio.Event(), asyncio.Event()
        self._link = FrontSide(path, name, self._hear, self._engine_gone)
        self._following = asyncio.create_task(self._follow(), name="mirror")

    async def load(self, name: str, version: int | None, role: Role = MAIN) -> Deployment:
        """Have a version loaded; once every front end answers with it, the deployment of this one."""
        return await self._asked_for("load", [name, version, role.name, role.share])

    async def promote(self, name: str) -> Deployment:
        """Have a candidate made the main version of every front end."""
        return await self._asked_for("promote", name)

    async def unload(self, name: str, version: int | None = None) -> None:
        """Have a name, or a candidate alone, forgotten by every front end."""
        await self._link.wait(self._link.ask("unload", [name, version]))

    async def ping(self) -> None:
        """Return once the engine process answers, be it never: whoever looks after the service has a limit of its own. One
        that is gone is not waited for: it is being started again."""
        if self._link.channel is not None:
            with suppress(Unavailable):
                await self._link.wait(self._link.ask("ping", None))

    async def aclose(self) -> None:
        """Finish what was asked, then take leave."""
        self.registry.drain()
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self.registry.aclose()
        await self._link.aclose()

    async def _asked_for(self, kind: str, body: Any) -> Deployment:
        answer = await self._link.wait(self._link.ask(kind, body))
        name, version = answer.body["name"], answer.body["version"]
        for one in self.registry.live:
            if (one.deployment.manifest.name, one.deployment.manifest.version) == (name, version):
                return one.deployment
        raise UnknownModel(f"model {name!r} was there, and was unloaded again by somebody else")

    def _hear(self, frame: Frame) -> None:
        match frame.kind:
            case "model":
                self._described[frame.number] = Description.from_json(frame.body), frame.blob.decode()
            case "models":
                generation, roles, is_loaded, standing = frame.body
                self.registry.is_connected = True
                by_number = {number: Role(name, share) for number, name, share in roles}
                self._wanted = _Wanted(generation, by_number, is_loaded, Standing.from_json(standing))
                self._changed.set()
            case "state":
                self._stand(State.from_json(frame.body))

    def _stand(self, state: State) -> None:
        self.registry.state = state
        self.registry.fatal_error = state.fatal_error
        for number, load in state.loads.items():
            scheduler = self._schedulers.get(number)
            if scheduler is not None:
                scheduler.load = load

    def _engine_gone(self) -> None:
        """Its numbers mean nothing to its successor. The deployments stay, and answer 503, until that has loaded its own."""
        self.registry.is_connected = False
        self._stand(State({}))
        for scheduler in self._schedulers.values():
            scheduler.died()
        self._schedulers.clear()
        self._described, self._live, self._wanted = {}, {}, None

    async def _follow(self) -> None:
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                if self._wanted is not None:
                    await self._become(self._wanted)
        except Exception:  # whatever it is: one that answers otherwise than the others must not go on
            logger.exception("this front end cannot follow what the engine process has loaded")
            self._give_up()

    async def _become(self, wanted: _Wanted) -> None:
        channel = self._link.channel
        for number in wanted.roles:
            if number not in self._live:
                description, definition = self._described[number]
                task, unknown_id = await asyncio.to_thread(_build, self._tasks, description, definition)
                if channel is not self._link.channel:  # the engine process is gone, or another
                    return
                self._live[number] = self._deployment(number, description, definition, task, unknown_id)
        self._settle(wanted)
        for number in [one for one in self._live if one not in wanted.roles]:
            del self._live[number], self._described[number]
        self._link.tell(Frame("followed", 0, wanted.generation), channel)
        self.has_followed.set()

    def _settle(self, wanted: _Wanted) -> None:
        """Put every version into its place, and take out those that have none, once it is known which have."""
        for number, role in wanted.roles.items():
            place(self.registry, self._live[number], role)
        if wanted.is_loaded or not self.registry.is_loaded:  # a successor that still loads does not know the defaults yet
            self.registry.follow(wanted.standing)
        if not wanted.is_loaded:
            return
        wished = [self._live[number] for number in wanted.roles]
        names = {one.manifest.name for one in wished}
        for one in self.registry.live:
            if (
                one.deployment not in wished
                and not self.registry.drop(one.deployment)
                and one.deployment.manifest.name not in names
            ):
                self.registry.remove(one.deployment.manifest.name)
        self.registry.follow(wanted.standing)  # once more: what was taken out may have been a default
        if not self.registry.is_loaded:
            self.registry.loading_finished()

    def _deployment(
        self, number: int, description: Description, definition: str, task: Task[Any, Any, Any], unknown_id: int | None
    ) -> Deployment:
        manifest = description.manifest
        scheduler = RemoteScheduler(self._link, number, description)
        engine = RemoteEngine(description.provider, description.execution_providers, description.num_threads)
        deployment = Deployment(manifest, self._tasks[manifest.task], task, engine, scheduler, self._metrics, definition)
        deployment.watch(Drift(manifest, task, unknown_id, self._metrics))
        self._schedulers[number] = scheduler
        load = self.registry.state.loads.get(number)
        if load is not None:
            scheduler.load = load
        return deployment


def place(registry: Registry, deployment: Deployment, role: Role) -> None:
    """Let this deployment play its role for its name: in a new place, in its old one with another role, or promoted."""
    name = deployment.manifest.name
    behind = {one.deployment: one.role for one in registry.live if one.deployment.manifest.name == name}
    if role.name == "main":
        if deployment not in behind:
            registry.replace(deployment)
        elif behind[deployment].name != "main":
            registry.promote(name)
    elif deployment not in behind:
        registry.run_beside(deployment, role)
    elif behind[deployment] != role:
        registry.give_role(name, deployment.manifest.version, role)


def _build(tasks: Tasks, description: Description, definition: str) -> tuple[Task[Any, Any, Any], int | None]:
    """The task, as the engine process made it, and the token that stands for what its vocabulary lacks."""
    manifest = description.manifest
    tokenizer = Tokenizer(definition, manifest.max_tokens)
    return tasks[manifest.task].build(tokenizer, manifest.task_options), tokenizer.unknown_id()

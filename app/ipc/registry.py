"""A front end's registry: its deployments answer through the engine process, and follow what that has loaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from app.core.errors import Unavailable, UnknownModel
from app.ipc.channel import Frame
from app.ipc.client import DOWN, EngineClient, RemoteSampling, RemoteScheduler
from app.ipc.messages import DeploymentInfo, EngineState
from app.observability.metrics import Metrics
from app.runtime.providers import Provider
from app.serving.deployment import Deployment
from app.serving.drift import Drift
from app.serving.registry import Registry, Standing
from app.serving.rollout.lease import MAIN, Role
from app.tasks.base import Task
from app.tasks.registry import Tasks, build_task, installed_tasks
from app.tasks.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RemoteEngine:
    """What computes elsewhere, as the engine process describes it. Satisfies `EngineInfo`."""

    provider: Provider
    execution_providers: list[str]
    num_threads: int
    decoder_provider: Provider | None
    decoder_execution_providers: list[str]

    async def aclose(self, patience_s: float | None = None) -> None:
        """Nothing: whoever has it closes it."""


class RemoteDeployment(Deployment):
    """How texts are written is said to the engine process by the options, of which it makes the rest: grammars are no data."""

    async def _sampling(self, num_rows: Sequence[int], options: Any, prefix_owner: str | None) -> Any:
        if self._generative is None or not num_rows:  # then nobody there is asked, and what contradicts itself is refused here
            return await super()._sampling(num_rows, options, prefix_owner)
        return RemoteSampling(num_rows, asdict(options), prefix_owner)


class RemoteRegistry(Registry):
    """Ready when the engine process is, and when every other front end is too."""

    state = EngineState({})
    is_connected = False

    @property
    def not_ready_reason(self) -> str:
        return DOWN if self.is_loaded and not self.is_connected else super().not_ready_reason

    @property
    def is_ready(self) -> bool:
        return super().is_ready and self.is_connected and self.state.all_ready


@dataclass(frozen=True, slots=True)
class _Target:
    generation: int
    roles: Mapping[int, Role]
    """By the deployment's number, main versions before their candidates."""
    is_loaded: bool
    standing: Standing


class RegistryFollower:
    """Invariant: after "ack" is said, the registry holds the deployments of the engine process's list, and no others."""

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
            name: what the engine process calls this one in its log.
            drain_s: seconds that requests get when their deployment is replaced.
            give_up: called when the list cannot be followed.
            tasks: those that the engine process has, too; None: all that are installed.
        """
        self.registry = RemoteRegistry(drain_s)
        self._metrics, self._give_up = metrics, give_up
        self._tasks = installed_tasks() if tasks is None else tasks
        self._infos: dict[int, DeploymentInfo] = {}
        self._live: dict[int, Deployment] = {}
        self._schedulers: WeakValueDictionary[int, RemoteScheduler] = WeakValueDictionary()
        self._target: _Target | None = None
        self._changed, self.has_followed = asyncio.Event(), asyncio.Event()
        self._client = EngineClient(path, name, self._on_message, self._engine_gone)
        self._following = asyncio.create_task(self._follow(), name="registry follower")

    async def load(self, name: str, version: int | None, role: Role = MAIN) -> Deployment:
        """Have a version loaded; once every front end answers with it, the deployment of this one."""
        return await self._asked_for("load", [name, version, role.name, role.share])

    async def promote(self, name: str) -> Deployment:
        """Have a candidate made the main version of every front end."""
        return await self._asked_for("promote", name)

    async def unload(self, name: str, version: int | None = None) -> None:
        """Have a name, or a candidate alone, forgotten by every front end."""
        await self._client.wait(self._client.ask("unload", [name, version]))

    async def ping(self) -> None:
        """Return once the engine process answers, be it never: whoever looks after the service has a limit of its own. One
        that is gone is not waited for: it is being started again."""
        if self._client.channel is not None:
            with suppress(Unavailable):
                await self._client.wait(self._client.ask("ping", None))

    async def aclose(self) -> None:
        """Finish what was asked, then take leave."""
        self.registry.drain()
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self.registry.aclose()
        await self._client.aclose()

    async def _asked_for(self, kind: str, body: Any) -> Deployment:
        answer = await self._client.wait(self._client.ask(kind, body))
        name, version = answer.body["name"], answer.body["version"]
        for live in self.registry.live:
            if (live.deployment.manifest.name, live.deployment.manifest.version) == (name, version):
                return live.deployment
        raise UnknownModel(f"model {name!r} was there, and was unloaded again by somebody else")

    def _on_message(self, frame: Frame) -> None:
        match frame.kind:
            case "model":
                self._infos[frame.number] = DeploymentInfo.from_blob(frame.body, frame.blob)
            case "models":
                generation, roles, is_loaded, standing = frame.body
                self.registry.is_connected = True
                by_number = {number: Role(name, share) for number, name, share in roles}
                self._target = _Target(generation, by_number, is_loaded, Standing.from_json(standing))
                self._changed.set()
            case "state":
                self._stand(EngineState.from_json(frame.body))

    def _stand(self, state: EngineState) -> None:
        self.registry.state = state
        self.registry.fatal_error = state.fatal_error
        for number, load in state.loads.items():
            scheduler = self._schedulers.get(number)
            if scheduler is not None:
                scheduler.load = load

    def _engine_gone(self) -> None:
        """Its numbers mean nothing to its successor. The deployments stay, and answer 503, until that has loaded its own."""
        self.registry.is_connected = False
        self._stand(EngineState({}))
        for scheduler in self._schedulers.values():
            scheduler.died()
        self._schedulers.clear()
        self._infos, self._live, self._target = {}, {}, None

    async def _follow(self) -> None:
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                if self._target is not None:
                    await self._become(self._target)
        except Exception:  # whatever it is: one that answers otherwise than the others must not go on
            logger.exception("this front end cannot follow what the engine process has loaded")
            self._give_up()

    async def _become(self, target: _Target) -> None:
        channel = self._client.channel
        for number in target.roles:
            if number not in self._live:
                info = self._infos[number]
                task, unknown_id = await asyncio.to_thread(_build, self._tasks, info)
                if channel is not self._client.channel:  # the engine process is gone, or another
                    return
                self._live[number] = self._deployment(number, info, task, unknown_id)
        self._apply(target)
        for number in [number for number in self._live if number not in target.roles]:
            del self._live[number], self._infos[number]
        self._client.tell(Frame("ack", 0, target.generation), channel)
        self.has_followed.set()

    def _apply(self, target: _Target) -> None:
        """Put every version into its place, and take out those that have none, once it is known which have."""
        for number, role in target.roles.items():
            place(self.registry, self._live[number], role)
        if target.is_loaded or not self.registry.is_loaded:  # a successor that still loads does not know the defaults yet
            self.registry.follow(target.standing)
        if not target.is_loaded:
            return
        expected = [self._live[number] for number in target.roles]
        names = {deployment.manifest.name for deployment in expected}
        for live in self.registry.live:
            name = live.deployment.manifest.name
            if live.deployment not in expected and not self.registry.drop(live.deployment) and name not in names:
                self.registry.remove(name)
        self.registry.follow(target.standing)  # once more: what was taken out may have been a default
        if not self.registry.is_loaded:
            self.registry.loading_finished()

    def _deployment(self, number: int, info: DeploymentInfo, task: Task[Any, Any, Any], unknown_id: int | None) -> Deployment:
        manifest = info.manifest
        scheduler = RemoteScheduler(self._client, number, info)
        engine = RemoteEngine(
            info.provider, info.execution_providers, info.num_threads, info.decoder_provider, info.decoder_execution_providers
        )
        spec = self._tasks[manifest.task]
        deployment = RemoteDeployment(manifest, spec, task, engine, scheduler, self._metrics, info.tokenizers)
        deployment.examples = info.examples
        deployment.watch(Drift(manifest, task, unknown_id, self._metrics))
        self._schedulers[number] = scheduler
        load = self.registry.state.loads.get(number)
        if load is not None:
            scheduler.load = load
        return deployment


def place(registry: Registry, deployment: Deployment, role: Role) -> None:
    """Let this deployment play its role for its name: in a new place, in its old one with another role, or promoted."""
    name = deployment.manifest.name
    roles = {live.deployment: live.role for live in registry.live if live.deployment.manifest.name == name}
    if role.name == "main":
        if deployment not in roles:
            registry.replace(deployment)
        elif roles[deployment].name != "main":
            registry.promote(name)
    elif deployment not in roles:
        registry.run_beside(deployment, role)
    elif roles[deployment] != role:
        registry.give_role(name, deployment.manifest.version, role)


def _build(tasks: Tasks, info: DeploymentInfo) -> tuple[Task[Any, Any, Any], int | None]:
    """The task, as the engine process made it, and the token that stands for what its vocabulary lacks."""
    decoder, limits = info.manifest.decoder, [info.manifest.max_tokens]
    if decoder is not None:
        limits.append(decoder.max_length)
    tokenizers = [Tokenizer(definition, limit) for definition, limit in zip(info.tokenizers, limits, strict=False)]
    return build_task(tasks, info.manifest, tokenizers), tokenizers[0].unknown_id()

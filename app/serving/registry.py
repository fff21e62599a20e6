"""The registry: which deployments stand behind a name, leased to requests and retired when the last lease ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from app.core.artefact import oldest
from app.core.errors import InvalidInput, ModelFailed, Unavailable, UnknownModel
from app.core.manifest import Manifest
from app.serving.deployment import Deployment
from app.serving.failures import FailedModel
from app.serving.rollout.canary import Canaries, unfit_reason
from app.serving.rollout.lease import MAIN, LeasedDeployment, LiveVersion, Role


@dataclass(frozen=True, slots=True)
class Standing:
    """What a registry knows beside its deployments."""

    failed: Sequence[FailedModel] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    """By task."""
    required: Sequence[str] = ()
    """Models without which the service is not ready."""
    unsaved: Sequence[str] = ()
    """Models of which another version would serve after a restart."""
    start_failure: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Standing:
        return cls(**{**body, "failed": [FailedModel(**fields) for fields in body["failed"]]})


class Registry:
    """Behind a name stands its main version, and at most one candidate beside it: another version for the same task.

    Invariant: a candidate is there only as long as its main version is.
    """

    def __init__(self, drain_s: float, draw: Callable[[], float] = random.random) -> None:
        """
        Args:
            drain_s: seconds that a retired deployment gets to finish.
            draw: a number from 0 up to, not including, 1 for each request that a candidate may have a share of.
        """
        self._entries: dict[str, LeasedDeployment] = {}
        self._candidates = Canaries(draw)
        self._drain_s = drain_s
        self._retiring: set[asyncio.Task[None]] = set()
        self._failed: dict[str, FailedModel] = {}
        self._defaults: dict[str, str] = {}
        self._pinned: frozenset[str] = frozenset()
        self._required: frozenset[str] = frozenset()
        self._unsaved: set[str] = set()
        self._loaded = False
        self._draining = False
        self.start_failure = ""
        """Why nothing could be loaded at the start; empty where that is not so."""
        self.fatal_error = ""
        """Why nothing but a new process helps; empty where that is not so."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when another version or role stands behind a name, and when everything is loaded."""

    @property
    def not_ready_reason(self) -> str:
        """Why requests are not answered yet, or no longer."""
        if self._draining:
            return "the service is draining"
        if not self._loaded:
            return self.start_failure or "models are still loading"
        return self.unmet_reason or ("models are still loading" if self._entries else "no model is loaded")

    @property
    def unmet_reason(self) -> str:
        """Which model that the settings name could not be loaded, and why; empty where there is none."""
        return next((_reason(failed) for failed in self.failed if failed.name in self._required), "")

    @property
    def failed(self) -> list[FailedModel]:
        """Models of which no version is loaded, though one was to be, by name."""
        return [self._failed[name] for name in sorted(self._failed)]

    @property
    def standing(self) -> Standing:
        """What another process needs to know beside the deployments, to answer as this one does."""
        return Standing(self.failed, dict(self._defaults), sorted(self._required), sorted(self._unsaved), self.start_failure)

    def follow(self, standing: Standing) -> None:
        """Stand as another process's registry does."""
        self._failed = {failed.name: failed for failed in standing.failed}
        self._defaults = dict(standing.defaults)
        self._required, self._unsaved = frozenset(standing.required), set(standing.unsaved)
        self.start_failure = standing.start_failure

    @property
    def deployments(self) -> list[Deployment]:
        """The main versions, by name."""
        return [self._entries[name].deployment for name in sorted(self._entries)]

    @property
    def live(self) -> list[LiveVersion]:
        """Every version, by name, each candidate after its main version."""
        live = []
        for name in sorted(self._entries):
            main, candidate = self._entries[name], self._candidates.get(name)
            left = 1.0 if candidate is None else 1.0 - candidate.role.share
            live.append(LiveVersion(main.deployment, Role("main", left)))
            if candidate is not None:
                live.append(LiveVersion(candidate.deployment, candidate.role))
        return live

    def versions(self, name: str) -> list[int]:
        """Those loaded of a name, the main one first."""
        return [live.deployment.manifest.version for live in self.live if live.deployment.manifest.name == name]

    @property
    def is_ready(self) -> bool:
        """Everything was tried, one model at least is loaded and all that the settings name are, and every main version's
        engine would answer."""
        are_alive = bool(self._entries) and all(entry.deployment.is_alive for entry in self._entries.values())
        return self._loaded and not self._draining and are_alive and not self.unmet_reason

    @property
    def is_loaded(self) -> bool:
        """What was to be loaded at the start has been tried."""
        return self._loaded

    def expect(
        self, first_published: Mapping[str, Mapping[str, str]], defaults: Mapping[str, str], required: Iterable[str]
    ) -> None:
        """Settle, before anything is loaded, which model answers requests of a task that name none; it stays that one.

        Args:
            first_published: for each task the models that are to be loaded, with the time since when they are published.
            defaults: for each task the model that the settings name.
            required: models without which the service is not ready.
        """
        self._defaults = {**{task: oldest(models) for task, models in first_published.items() if task}, **defaults}
        self._pinned, self._required = frozenset(defaults), frozenset(required)

    def default_of(self, task: str) -> str | None:
        """The model that answers requests of this task that name none."""
        return self._defaults.get(task)

    def fail(self, failed: FailedModel) -> None:
        """List a model as failed; one of which a version is loaded is not: that goes on answering."""
        if failed.name not in self._entries:
            self._failed[failed.name] = failed
            self.on_change()

    def is_persistent(self, deployment: Deployment) -> bool:
        """Whether a restart would bring it back in its role: candidates never come back."""
        return self.stands(deployment) and deployment.manifest.name not in self._unsaved

    def saved(self, deployment: Deployment, persistent: bool) -> None:
        """Remember whether it is written down that this version serves."""
        change = self._unsaved.discard if persistent else self._unsaved.add
        change(deployment.manifest.name)
        self.on_change()

    def loading_finished(self) -> None:
        self._loaded = True
        self.on_change()

    @contextmanager
    def lease(self, tasks: Sequence[str], name: str | None = None) -> Iterator[Deployment]:
        """The main version behind a name, or the one that is named; it stays open until the block ends.

        Args:
            tasks: what the request may ask for, in the order in which their defaults are asked; none, with a name: whatever
                the model is for.
            name: a model, `name` or `name/version`; None: the default of the first of the tasks that has a model, and never
                another in its place.

        Raises:
            UnknownModel: no such model, or it has another task.
            ModelFailed: it could not be loaded.
            Unavailable: models are still loading.
        """
        with self._find(tasks, name).lease() as deployment:
            yield deployment

    @contextmanager
    def assign(self, tasks: Sequence[str], name: str | None = None) -> Iterator[Deployment]:
        """As `lease`, for a request to be answered: of those that name no version, a candidate takes its share."""
        entry = self._find(tasks, name)
        if "/" not in (name or ""):
            entry = self._candidates.draw(entry.deployment.manifest.name) or entry
        with entry.lease() as deployment:
            yield deployment

    def shadow_of(self, main: Deployment) -> LeasedDeployment | None:
        """The candidate that is asked what this deployment is asked; None where there is none."""
        return self._candidates.shadow(main.manifest.name) if self.stands(main) else None

    def replace(self, deployment: Deployment) -> None:
        """Move the name to this deployment; the one it stood for closes when its last lease ends.

        A candidate beside it stays, unless it is this very version or does another task.
        """
        name = deployment.manifest.name
        self._retire(self._entries.get(name))
        self._entries[name] = LeasedDeployment(deployment)
        self._failed.pop(name, None)
        self._defaults.setdefault(deployment.manifest.task, name)
        candidate = self._candidates.get(name)
        if candidate is not None and unfit_reason(candidate.deployment.manifest, deployment.manifest):
            self._retire(self._candidates.take(name))
        self.on_change()

    def check_candidate(self, manifest: Manifest) -> None:
        """
        Raises:
            UnknownModel: no main version is there to run beside.
            InvalidInput: it is the main version itself, or is for another task.
        """
        main = self._entries.get(manifest.name)
        if main is None:
            raise UnknownModel(f"model {manifest.name!r} is not loaded: there is nothing that another version could run beside")
        reason = unfit_reason(manifest, main.deployment.manifest)
        if reason:
            raise InvalidInput(reason, "version")

    def run_beside(self, deployment: Deployment, role: Role) -> None:
        """Let this deployment play its role beside the main version; a candidate that was there retires.

        Raises:
            UnknownModel, InvalidInput: as for `check_candidate`.
        """
        self.check_candidate(deployment.manifest)
        self._retire(self._candidates.put(LeasedDeployment(deployment, role)))
        self.on_change()

    def give_role(self, name: str, version: int, role: Role) -> Deployment | None:
        """Let the candidate play another role; None where this version is no candidate that answers."""
        changed = self._candidates.give_role(name, version, role)
        if changed is not None:
            self.on_change()
        return changed

    def promote(self, name: str) -> Deployment:
        """Make the candidate the main version; the one that was it closes when its last lease ends.

        Raises:
            UnknownModel: there is no candidate.
            Unavailable: its engine is down.
        """
        candidate = self._candidates.get(name)
        if candidate is None:
            raise UnknownModel(f"no other version runs beside model {name!r}")
        if not candidate.deployment.is_alive:
            raise Unavailable(f"the engine of {name}/{candidate.version} is down")
        self._candidates.take(name)
        candidate.role = MAIN
        self._retire(self._entries[name])
        self._entries[name] = candidate
        self.on_change()
        return candidate.deployment

    def drop(self, deployment: Deployment) -> bool:
        """Forget a candidate; whether it was one."""
        candidate = self._candidates.take(deployment.manifest.name, deployment)
        self._retire(candidate)
        if candidate is not None:
            self.on_change()
        return candidate is not None

    def remove(self, name: str, version: int | None = None) -> None:
        """Forget a name, or with a version the candidate alone; deployments close when their last leases end. A task's default
        stays the default, and is asked for in vain, as long as the task has other models.

        Raises:
            UnknownModel: nothing stands behind the name, or the version is no candidate.
        """
        if version is not None:
            candidate = self._candidates.get(name)
            if candidate is None or candidate.version != version:
                raise UnknownModel(
                    f"{name}/{version} does not run beside another version; without a version, {name} is unloaded"
                )
            self.drop(candidate.deployment)
            return
        if name not in self._entries and name not in self._failed:
            raise UnknownModel(f"model {name!r} is not loaded")
        self._retire(self._candidates.take(name))
        self._retire(self._entries.pop(name, None))
        self._failed.pop(name, None)
        left = {entry.deployment.manifest.task for entry in self._entries.values()}
        left |= {failed.task for failed in self._failed.values()} | self._pinned
        self._defaults = {task: model for task, model in self._defaults.items() if task in left}
        self.on_change()

    def stands(self, deployment: Deployment) -> bool:
        """Whether this deployment still answers for its name, as the main version."""
        entry = self._entries.get(deployment.manifest.name)
        return entry is not None and entry.deployment is deployment and not self._draining

    def drain(self) -> None:
        """Turn readiness red; requests are still answered."""
        self._draining = True

    async def aclose(self) -> None:
        """Retire everything and wait for it."""
        self.drain()
        for name in list(self._entries):
            self.remove(name)
        await asyncio.gather(*self._retiring)

    def _find(self, tasks: Sequence[str], name: str | None) -> LeasedDeployment:
        if name is None:
            return self._default(next((task for task in tasks if task in self._defaults), tasks[0]), tasks)
        short, _, version = name.partition("/")
        behind = self._entries.get(short), self._candidates.get(short)
        entry = next((leased for leased in behind if leased and version in ("", str(leased.version))), None)
        if entry is None:
            failed = self._failed.get(short)
            if failed is not None and version in ("", str(failed.version or version)):
                raise ModelFailed(_reason(failed))
            if not self._loaded or self._draining:
                raise Unavailable(self.not_ready_reason)
            raise UnknownModel(f"model {name!r} is not loaded; loaded are: {', '.join(sorted(self._entries)) or 'none'}")
        task = entry.deployment.manifest.task
        if tasks and task not in tasks:
            raise UnknownModel(f"model {name!r} is for {task}, not for {' or '.join(tasks)}")
        return entry

    def _default(self, task: str, tasks: Sequence[str]) -> LeasedDeployment:
        name = self._defaults.get(task)
        entry = self._entries.get(name or "")
        if entry is not None and entry.deployment.manifest.task in tasks:  # the settings may name another of the route's
            return entry
        if name in self._failed:
            raise ModelFailed(f"{_reason(self._failed[name])}; it is the default for {task}: name another model")
        if not self._loaded or self._draining:
            raise Unavailable(self.not_ready_reason)
        candidates = [deployment.manifest.name for deployment in self.deployments if deployment.manifest.task == task]
        if not candidates:
            missing = [task] if name else tasks
            raise UnknownModel(f"no loaded model does {' or '.join(missing)}; `hooper models add` adds one")
        raise UnknownModel(f"{name!r}, the default for {task}, is not loaded; name another: {', '.join(candidates)}")

    def _retire(self, entry: LeasedDeployment | None) -> None:
        if entry is None:
            return
        task = asyncio.create_task(entry.retire(self._drain_s), name=f"retire-{entry.deployment.manifest.name}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def _reason(failed: FailedModel) -> str:
    return f"model {failed.name!r} could not be loaded: {failed.detail}"

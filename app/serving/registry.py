"""The registry: which deployments stand behind a name, leased to requests and retired when the last lease ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.core.errors import InvalidInput, Unavailable, UnknownModel
from app.core.manifest import Manifest
from app.core.types import TaskName
from app.serving.candidates import Candidates, unfit_because
from app.serving.deployment import Deployment
from app.serving.leased import MAIN, Leased, LiveVersion, Role


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
        self._entries: dict[str, Leased] = {}
        self._candidates = Candidates(draw)
        self._drain_s = drain_s
        self._retiring: set[asyncio.Task[None]] = set()
        self._loaded = False
        self._draining = False
        self.beyond_help_because = ""
        """Why nothing but a new process helps; empty where that is not so."""

    @property
    def not_ready_because(self) -> str:
        """Why requests are not answered yet, or no longer."""
        return "the service is draining" if self._draining else "models are still loading"

    @property
    def deployments(self) -> list[Deployment]:
        """The main versions, by name."""
        return [self._entries[name].deployment for name in sorted(self._entries)]

    @property
    def live(self) -> list[LiveVersion]:
        """Every version, by name, each candidate after its main version."""
        found = []
        for name in sorted(self._entries):
            main, candidate = self._entries[name], self._candidates.get(name)
            left = 1.0 if candidate is None else 1.0 - candidate.role.share
            found.append(LiveVersion(main.deployment, Role("main", left)))
            if candidate is not None:
                found.append(LiveVersion(candidate.deployment, candidate.role))
        return found

    def versions(self, name: str) -> list[int]:
        """Those loaded of a name, the main one first."""
        return [one.deployment.manifest.version for one in self.live if one.deployment.manifest.name == name]

    @property
    def is_ready(self) -> bool:
        """Everything is loaded and every main version's engine would answer."""
        return self._loaded and not self._draining and all(one.deployment.is_alive for one in self._entries.values())

    def loading_finished(self) -> None:
        self._loaded = True

    @contextmanager
    def lease(self, task: TaskName | None, name: str | None = None) -> Iterator[Deployment]:
        """The main version behind a name, or the one that is named; it stays open until the block ends.

        Args:
            task: what the request asks for; None, with a name: whatever the model is for.
            name: a model, `name` or `name/version`; None: the task's default, the first by name.

        Raises:
            UnknownModel: no such model, or it has another task.
            Unavailable: models are still loading.
        """
        with self._find(task, name).lease() as deployment:
            yield deployment

    @contextmanager
    def assign(self, task: TaskName | None, name: str | None = None) -> Iterator[Deployment]:
        """As `lease`, for a request to be answered: of those that name no version, a candidate takes its share."""
        entry = self._find(task, name)
        if "/" not in (name or ""):
            entry = self._candidates.drawn(entry.deployment.manifest.name) or entry
        with entry.lease() as deployment:
            yield deployment

    def shadow_of(self, main: Deployment) -> Leased | None:
        """The candidate that is asked what this deployment is asked; None where there is none."""
        return self._candidates.shadow(main.manifest.name) if self.stands(main) else None

    def replace(self, deployment: Deployment) -> None:
        """Move the name to this deployment; the one it stood for closes when its last lease ends.

        A candidate beside it stays, unless it is this very version or does another task.
        """
        name = deployment.manifest.name
        self._retire(self._entries.get(name))
        self._entries[name] = Leased(deployment)
        candidate = self._candidates.get(name)
        if candidate is not None and unfit_because(candidate.deployment.manifest, deployment.manifest):
            self._retire(self._candidates.take(name))

    def check_candidate(self, manifest: Manifest) -> None:
        """
        Raises:
            UnknownModel: no main version is there to run beside.
            InvalidInput: it is the main version itself, or is for another task.
        """
        main = self._entries.get(manifest.name)
        if main is None:
            raise UnknownModel(f"model {manifest.name!r} is not loaded: there is nothing that another version could run beside")
        reason = unfit_because(manifest, main.deployment.manifest)
        if reason:
            raise InvalidInput(reason, "version")

    def run_beside(self, deployment: Deployment, role: Role) -> None:
        """Let this deployment play its role beside the main version; a candidate that was there retires.

        Raises:
            UnknownModel, InvalidInput: as for `check_candidate`.
        """
        self.check_candidate(deployment.manifest)
        self._retire(self._candidates.put(Leased(deployment, role)))

    def give_role(self, name: str, version: int, role: Role) -> Deployment | None:
        """Let the candidate play another role; None where this version is no candidate that answers."""
        return self._candidates.give_role(name, version, role)

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
        return candidate.deployment

    def drop(self, deployment: Deployment) -> bool:
        """Forget a candidate; whether it was one."""
        candidate = self._candidates.take(deployment.manifest.name, deployment)
        self._retire(candidate)
        return candidate is not None

    def remove(self, name: str, version: int | None = None) -> None:
        """Forget a name, or with a version the candidate alone; deployments close when their last leases end.

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
        if name not in self._entries:
            raise UnknownModel(f"model {name!r} is not loaded")
        self._retire(self._candidates.take(name))
        self._retire(self._entries.pop(name))

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

    def _find(self, task: TaskName | None, name: str | None) -> Leased:
        if name is None:
            for key in sorted(self._entries):
                if self._entries[key].deployment.manifest.task == task:
                    return self._entries[key]
            if not self._loaded or self._draining:
                raise Unavailable(self.not_ready_because)
            raise UnknownModel(f"no loaded model does {task}")
        short, _, version = name.partition("/")
        behind = self._entries.get(short), self._candidates.get(short)
        entry = next((one for one in behind if one and version in ("", str(one.version))), None)
        if entry is None:
            if not self._loaded or self._draining:
                raise Unavailable(self.not_ready_because)
            raise UnknownModel(f"model {name!r} is not loaded; loaded are: {', '.join(sorted(self._entries)) or 'none'}")
        found = entry.deployment.manifest.task
        if task is not None and found != task:
            raise UnknownModel(f"model {name!r} is for {found}, not for {task}")
        return entry

    def _retire(self, entry: Leased | None) -> None:
        if entry is None:
            return
        task = asyncio.create_task(entry.retire(self._drain_s), name=f"retire-{entry.deployment.manifest.name}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

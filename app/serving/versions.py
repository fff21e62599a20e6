"""Versions come and go: at the start, and while requests are answered, in the role that they are wanted for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from app.core.artefact import Artefact
from app.core.errors import HooperError, InvalidArtefact, InvalidSettings, SetupError, UnknownModel
from app.core.manifest import VERSION, is_path
from app.serving.deployment import Deployment
from app.serving.failures import FailedModel, failed_model, without_paths
from app.serving.registry import Registry
from app.serving.repository import Repository
from app.serving.rollout.lease import MAIN, Role
from app.serving.rollout.recovery import EngineRecovery
from app.tasks.registry import Tasks

Failure = tuple[FailedModel, Exception]

logger = logging.getLogger(__name__)


class Versions:
    """Invariant: a name moves only to a version that is sound, warm, and has answered its golden requests."""

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        load: Callable[[Artefact], Awaitable[Deployment]],
        recovery: EngineRecovery,
    ) -> None:
        """
        Args:
            registry: where deployments live.
            repository: where versions lie.
            load: makes a deployment of an artefact.
        """
        self._registry, self._repository, self._load, self._recovery = registry, repository, load, recovery

    async def load(self, name: str, version: int | None, role: Role = MAIN) -> Deployment:
        """Load a version, the latest where none is named; a candidate that is loaded already only changes its role.

        Raises:
            UnknownModel: there is no such model or version, or, for a candidate, no main version.
            InvalidArtefact: it is broken, or does not answer its golden requests.
            InvalidInput: it cannot run beside the main version.
        """
        if "\0" in name:  # the system refuses to look for it
            raise UnknownModel(f"there is no model {name!r}")
        try:
            return await self._loaded(name, version, role)
        except HooperError as error:  # a caller reads it; the log has the whole of it
            error.detail = without_paths(error.detail, self._repository.root / name)
            if isinstance(error, SetupError) and name not in error.detail:  # the path that named it is gone
                error.detail = f"{name}: {error.detail}"
            raise

    async def _loaded(self, name: str, version: int | None, role: Role) -> Deployment:
        if role.name != "main":
            return await self._add_candidate(await asyncio.to_thread(self._repository.open, name, version), role)
        try:
            deployment = await self.add(await asyncio.to_thread(self._repository.open, name, version))
        except UnknownModel:
            raise
        except Exception as error:
            number = version or await asyncio.to_thread(self._latest, name)
            self._list(await asyncio.to_thread(failed_model, name, number, self._repository.root / name, error), error)
            raise
        await self.save(deployment, "loaded")
        return deployment

    async def save(self, deployment: Deployment, why: str) -> None:
        """Have this version served after a restart, too; where that cannot be written, the registry tells."""
        name, version = deployment.manifest.name, deployment.manifest.version
        self._registry.saved(deployment, await asyncio.to_thread(self._repository.records.write, name, version, why))

    async def load_all(self, serve: Sequence[str], defaults: Mapping[str, str], specs: Tasks) -> list[tuple[str, Exception]]:
        """Try every model of a start, whatever becomes of the others; those that fail are listed in the registry.

        Args:
            serve: the models that must load, as `Repository.find` takes them; empty: all there are, none of which must.
            defaults: by task, the model that answers requests which name none; they must load as well.

        Returns:
            What failed, and with what.

        Raises:
            InvalidSettings: a reference is no model's name, one is there twice, or a default does a task of another route.
            InvalidArtefact: there is no model to load.
        """
        wishes = serve or await asyncio.to_thread(self._repository.names)
        find = partial(self._repository.find, served=True) if serve else self._repository.open_served
        if not wishes:
            raise InvalidArtefact(f"{self._repository.root} holds no published model; publish one with `hooper train`")
        artefacts, failures = await asyncio.to_thread(self._find_all, wishes, find)
        tasks = {artefact.manifest.name: artefact.manifest.task for artefact in artefacts}
        tasks |= {failed.name: failed.task for failed, _ in failures}
        failures += _missing(defaults, tasks, specs)
        self._registry.expect(_ages(artefacts, failures), defaults, {*(tasks if serve else ()), *defaults.values()})
        for failed, error in failures:
            self._list(failed, error)
        for artefact in artefacts:
            try:
                await self.add(artefact)
            except Exception as error:  # whatever it is: the others are loaded all the same
                manifest = artefact.manifest
                failed = await asyncio.to_thread(failed_model, manifest.name, manifest.version, artefact.folder.parent, error)
                self._list(failed, error)
                failures.append((failed, error))
        return [(failed.id, error) for failed, error in failures]

    def _find_all(self, references: Sequence[str], find: Callable[[str], Artefact]) -> tuple[list[Artefact], list[Failure]]:
        artefacts: list[Artefact] = []
        failures: list[Failure] = []
        names: set[str] = set()
        for reference in references:
            result = self._try_find(reference, find)
            name = result.manifest.name if isinstance(result, Artefact) else result[0].name
            if name in names:
                raise InvalidSettings(f"{name} is named twice; one version of a model can be served at a time")
            names.add(name)
            if isinstance(result, Artefact):
                artefacts.append(result)
            else:
                failures.append(result)
        return artefacts, failures

    def _try_find(self, reference: str, find: Callable[[str], Artefact]) -> Artefact | Failure:
        try:
            return find(reference)
        except InvalidSettings:
            raise
        except Exception as error:
            name, _, number = reference.partition("/")
            folder = self._repository.root / name
            if is_path(reference):  # by its own name, and its parent's where that is a version's number
                path = Path(reference).expanduser().absolute()
                folder, number = (path.parent, path.name) if VERSION.fullmatch(path.name) else (path, "")
                name = folder.name
            version = int(number) if VERSION.fullmatch(number) else None
            if not version:
                with suppress(Exception):  # it is told by the error
                    version = self._repository.served_version(name)
            return failed_model(name, version, folder, error), error

    def _list(self, failed: FailedModel, error: Exception) -> None:
        reason = error.detail if isinstance(error, HooperError) else repr(error)
        logger.error("%s could not be loaded: %s", failed.id, reason)
        self._registry.fail(failed)

    def _latest(self, name: str) -> int | None:
        versions = self._repository.versions(name)
        return versions[-1] if versions else None

    async def add(self, artefact: Artefact) -> Deployment:
        """Load an artefact and move its name to it."""
        deployment = await self._load(artefact)
        self._registry.replace(deployment)
        self._recovery.watch(deployment, artefact)
        return deployment

    async def _add_candidate(self, artefact: Artefact, role: Role) -> Deployment:
        self._registry.check_candidate(artefact.manifest)
        already = self._registry.give_role(artefact.manifest.name, artefact.manifest.version, role)
        if already is not None:
            return already
        deployment = await self._load(artefact)
        try:
            self._registry.run_beside(deployment, role)
        except HooperError:  # the main version has changed meanwhile
            await deployment.aclose(0)
            raise
        self._recovery.watch(deployment, artefact)
        return deployment


def _missing(defaults: Mapping[str, str], tasks: Mapping[str, str], specs: Tasks) -> list[Failure]:
    """Defaults that the settings name, of which there is no model.

    Raises:
        InvalidSettings: there is one, for a task of another route.
    """
    missing: list[Failure] = []
    for task, name in defaults.items():
        if name not in tasks:
            error = InvalidSettings("HOOPER_DEFAULT_MODELS names it, but it is none of the models that are served")
            missing.append((FailedModel(name, None, error.detail, task), error))
        elif tasks[name] and tasks[name] not in specs.beside(task):
            raise InvalidSettings(f"HOOPER_DEFAULT_MODELS names {name} for {task}, but it does {tasks[name]}")
    return missing


def _ages(artefacts: Sequence[Artefact], failures: Sequence[Failure]) -> dict[str, dict[str, str]]:
    """By task, since when each model is published."""
    ages: dict[str, dict[str, str]] = {}
    for artefact in artefacts:
        ages.setdefault(artefact.manifest.task, {})[artefact.manifest.name] = artefact.first_published
    for failed, _ in failures:
        ages.setdefault(failed.task, {})[failed.name] = failed.first_published
    return ages

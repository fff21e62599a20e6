"""Versions come and go while requests are answered: loaded from the repository, in the role that they are wanted for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.core.errors import HooperError
from app.serving.deployment import Deployment
from app.serving.leased import MAIN, Role
from app.serving.registry import Registry
from app.serving.replacement import Replacement
from app.serving.repository import Artefact, Repository


class Versions:
    """Invariant: a name moves only to a version that is sound, warm, and has answered its golden requests."""

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        load: Callable[[Artefact], Awaitable[Deployment]],
        replacement: Replacement,
    ) -> None:
        """
        Args:
            registry: where deployments live.
            repository: where versions lie.
            load: makes a deployment of an artefact.
            replacement: is told to watch each engine.
        """
        self._registry, self._repository, self._load, self._replacement = registry, repository, load, replacement

    async def load(self, name: str, version: int | None, role: Role = MAIN) -> Deployment:
        """Load a version, the latest where none is named; a candidate that is loaded already only changes its role.

        Raises:
            UnknownModel: there is no such model or version, or, for a candidate, no main version.
            InvalidArtefact: it is broken, or does not answer its golden requests.
            InvalidInput: it cannot run beside the main version.
        """
        artefact = await asyncio.to_thread(self._repository.open, name, version)
        return await self.add(artefact) if role.name == "main" else await self._add_candidate(artefact, role)

    async def add(self, artefact: Artefact) -> Deployment:
        """Load an artefact and move its name to it."""
        deployment = await self._load(artefact)
        self._registry.replace(deployment)
        self._replacement.watch(deployment, artefact)
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
        self._replacement.watch(deployment, artefact)
        return deployment

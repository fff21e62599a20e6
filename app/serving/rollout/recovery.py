"""EngineRecovery: a model whose engine was lost is loaded again, so many times and no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.core.artefact import Artefact, open_artefact
from app.core.errors import HooperError
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment
from app.serving.registry import Registry

logger = logging.getLogger(__name__)


class EngineRecovery:
    """Invariant: a process replaces at most `max_recoveries` engines; one more, or one that it cannot replace, is fatal.

    The bound is on memory and threads: a stuck engine keeps both until its run ends, which may be never.
    """

    def __init__(
        self, registry: Registry, load: Callable[[Artefact], Awaitable[Deployment]], max_recoveries: int, metrics: Metrics
    ) -> None:
        """
        Args:
            registry: where deployments live, and what is told that nothing helps.
            load: makes a deployment of an artefact.
        """
        self._registry, self._load, self._max_recoveries, self._metrics = registry, load, max_recoveries, metrics
        self._num_lost = 0
        self._watching: set[asyncio.Task[None]] = set()

    def watch(self, deployment: Deployment, artefact: Artefact) -> None:
        """Should its engine be lost, replace this deployment where it is the main version, and drop it where it is not."""
        task = asyncio.create_task(self._replace_when_lost(deployment, artefact), name=f"watch-{artefact.id}")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def aclose(self) -> None:
        """Replace nothing more."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    async def _replace_when_lost(self, deployment: Deployment, artefact: Artefact) -> None:
        if not await deployment.wait_closed():
            return
        if self._registry.drop(deployment):  # nothing is opened in its place, so it does not count against the bound
            self._metrics.engines_lost.labels(artefact.manifest.name).inc()
            logger.error("%s lost its engine and no longer runs beside the main version", artefact.id)
            return
        if not self._registry.stands(deployment):
            return
        self._num_lost += 1
        self._metrics.engines_lost.labels(artefact.manifest.name).inc()
        if self._num_lost > self._max_recoveries:
            self._give_up(f"{self._num_lost} engines were lost, of which {self._max_recoveries} may be replaced in one process")
            return
        try:
            unchanged = await asyncio.to_thread(open_artefact, artefact.folder)
        except HooperError as error:  # no process could load it: the other models go on answering
            logger.error("%s lost its engine and cannot be loaded again: %s", artefact.id, error.detail)
            return
        try:
            fresh = await self._load(unchanged)
        except Exception as error:  # whatever it is: a process that cannot open an engine any more needs a successor
            detail = error.detail if isinstance(error, HooperError) else type(error).__name__
            self._give_up(f"{artefact.id} lost its engine and cannot be loaded again in this process: {detail}")
            return
        if not self._registry.stands(deployment):  # somebody loaded another version, or unloaded this one, meanwhile
            await fresh.aclose(0)
            return
        self._registry.replace(fresh)
        self.watch(fresh, artefact)
        logger.warning("%s lost its engine and was loaded again", artefact.id)

    def _give_up(self, reason: str) -> None:
        logger.critical("beyond help: %s", reason)
        self._registry.fatal_error = reason

"""The registry: which deployment stands behind a name, leased to requests and retired when the last lease ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.core.errors import Unavailable, UnknownModel
from app.core.types import TaskName
from app.serving.deployment import Deployment


@dataclass(eq=False, slots=True)
class _Entry:
    deployment: Deployment
    num_leases: int = 0
    free: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.free.set()


class Registry:
    """Invariant: a deployment is closed only after every lease on it has ended, or its drain time has passed."""

    def __init__(self, drain_s: float) -> None:
        self._entries: dict[str, _Entry] = {}
        self._drain_s = drain_s
        self._retiring: set[asyncio.Task[None]] = set()
        self._loaded = False
        self._draining = False
        self.beyond_help_because = ""
        """Why nothing but a new process helps; empty where that is not so."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a name has moved or was forgotten, and when everything is loaded."""

    @property
    def not_ready_because(self) -> str:
        """Why requests are not answered yet, or no longer."""
        return "the service is draining" if self._draining else "models are still loading"

    @property
    def deployments(self) -> list[Deployment]:
        """The live ones, by name."""
        return [self._entries[name].deployment for name in sorted(self._entries)]

    @property
    def is_ready(self) -> bool:
        """Everything is loaded and every engine would answer."""
        return self._loaded and not self._draining and all(entry.deployment.is_alive for entry in self._entries.values())

    @property
    def is_loaded(self) -> bool:
        """What was to be loaded at the start has been."""
        return self._loaded

    def loading_finished(self) -> None:
        self._loaded = True
        self.on_change()

    @contextmanager
    def lease(self, task: TaskName | None, name: str | None = None) -> Iterator[Deployment]:
        """The deployment for a request; it stays open until the block ends.

        Args:
            task: what the request asks for; None, with a name: whatever the model is for.
            name: a model, `name` or `name/version`; None: the task's default, the first by name.

        Raises:
            UnknownModel: no such model, or it has another task.
            Unavailable: models are still loading.
        """
        entry = self._find(task, name)
        entry.num_leases += 1
        entry.free.clear()
        try:
            yield entry.deployment
        finally:
            entry.num_leases -= 1
            if not entry.num_leases:
                entry.free.set()

    def replace(self, deployment: Deployment) -> None:
        """Move the name to this deployment; the one it stood for closes when its last lease ends."""
        old = self._entries.get(deployment.manifest.name)
        self._entries[deployment.manifest.name] = _Entry(deployment)
        self.on_change()
        if old is not None:
            self._retire(old)

    def remove(self, name: str) -> None:
        """Forget a name; its deployment closes when its last lease ends.

        Raises:
            UnknownModel: nothing stands behind the name.
        """
        entry = self._entries.pop(name, None)
        if entry is None:
            raise UnknownModel(f"model {name!r} is not loaded")
        self.on_change()
        self._retire(entry)

    def stands(self, deployment: Deployment) -> bool:
        """Whether this deployment still answers for its name."""
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

    def _find(self, task: TaskName | None, name: str | None) -> _Entry:
        if name is None:
            for key in sorted(self._entries):
                if self._entries[key].deployment.manifest.task == task:
                    return self._entries[key]
            if not self._loaded or self._draining:
                raise Unavailable(self.not_ready_because)
            raise UnknownModel(f"no loaded model does {task}")
        short, _, version = name.partition("/")
        entry = self._entries.get(short)
        if entry is None or (version and version != str(entry.deployment.manifest.version)):
            if not self._loaded or self._draining:
                raise Unavailable(self.not_ready_because)
            raise UnknownModel(f"model {name!r} is not loaded; loaded are: {', '.join(sorted(self._entries)) or 'none'}")
        found = entry.deployment.manifest.task
        if task is not None and found != task:
            raise UnknownModel(f"model {name!r} is for {found}, not for {task}")
        return entry

    def _retire(self, entry: _Entry) -> None:
        async def close() -> None:
            until = time.monotonic() + self._drain_s
            try:
                async with asyncio.timeout(self._drain_s):
                    await entry.free.wait()
            except TimeoutError:
                pass  # whoever still holds a lease is answered with Unavailable by the closing batcher
            await entry.deployment.aclose(max(0.0, until - time.monotonic()))

        task = asyncio.create_task(close(), name=f"retire-{entry.deployment.manifest.name}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

"""Metrics of several processes as one: each counts in files of its own place, and any of them renders the sum."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from app.observability.metrics import LiveModel, LiveModels, Metrics

Kind = Literal["engine", "front_end"]


class SharedMetrics(Metrics):
    """Invariant: nothing that was counted is lost or counted twice, whichever process dies: a successor goes on in its file."""

    def __init__(self, folder: Path, place: str, kind: Kind, is_successor: bool) -> None:
        """The first in its process, in which every metric is kept in such files from then on.

        Args:
            folder: where the files of all processes lie.
            place: this process's, such as `front-end-1`; two that run at the same time must not share one.
            kind: what the process is.
            is_successor: another one had this place before, and has died.
        """
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # prometheus-client asks nobody else
        values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
        super().__init__()
        self._folder = folder
        self._live: LiveModels | None = None
        restarts = Counter(
            "hooper_process_restarts_total", "Processes of the service that died and were started again.", ("process",),
            registry=self.registry,
        )  # fmt: skip
        restarts.labels(kind).inc(int(is_successor))

    def track(self, models: Callable[[], Iterable[LiveModel]], failed: Callable[[], Iterable[str]] = list) -> None:
        self._live = LiveModels(models, failed)

    def render(self) -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        if self._live is not None:
            registry.register(self._live)
        return generate_latest(registry)

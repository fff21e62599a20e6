"""Sessions: one graph, opened to compute a batch with every thread, and beside that to compute several with a thread each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.core.manifest import Graph
from app.runtime.engine import Engine, OpenEngine, open_engine
from app.runtime.providers import Provider
from app.runtime.session import OnnxSession

MOST_STREAMS = 4
"""Threads up to which each computes a batch of its own where nothing else is said. Only two were measured."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """What computes for one model."""

    alone: OnnxSession
    """Has every thread."""
    beside: Sequence[OnnxSession] = ()
    """Have one thread each, and one engine together: the weights lie in memory once more, not once for each."""

    @property
    def provider(self) -> Provider:
        return self.alone.provider

    @property
    def execution_providers(self) -> list[str]:
        return self.alone.execution_providers

    @property
    def num_threads(self) -> int:
        return self.alone.num_threads

    async def aclose(self, patience_s: float | None = None) -> None:
        """As `OnnxSession.aclose`, for all at the same time."""
        await asyncio.gather(*(one.aclose(patience_s) for one in (self.alone, *self.beside)))


def open_sessions(
    graph_file: Path,
    graph: Graph,
    provider: Provider,
    num_threads: int = 0,
    num_streams: int = 0,
    opening: OpenEngine = open_engine,
) -> Sessions:
    """
    Args:
        graph_file, graph, provider, num_threads, opening: as for `OnnxSession`.
        num_streams: batches at the same time, on ONNX Runtime's own CPU provider; 0: as many as threads, where those are few
            and the arithmetic is int8: in fp32 it gains next to nothing, and its weights are four times as large. Other
            providers compute one after the other: they have their own ways to keep a device busy.

    Raises:
        InvalidArtefact, ProviderUnavailable: as for `OnnxSession`.
    """
    alone = OnnxSession(graph_file, graph, provider, num_threads, opening)
    num_beside = _num_beside(num_streams, alone.num_threads, provider)
    if num_beside < 2:
        return Sessions(alone)
    shared = opening(graph_file, graph, provider, 1)

    def open_shared(*_: object) -> Engine:
        return shared

    return Sessions(alone, [OnnxSession(graph_file, graph, provider, 1, open_shared) for _ in range(num_beside)])


def _num_beside(wished: int, num_threads: int, provider: Provider) -> int:
    if provider.device != "cpu":
        return 1
    pays = provider.precision == "int8" and num_threads <= MOST_STREAMS
    return min(wished or (num_threads if pays else 1), num_threads)

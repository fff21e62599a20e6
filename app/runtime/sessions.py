"""Sessions: one graph, opened to compute a batch with every thread, and once more to compute several that share the threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.core.manifest import Graph
from app.runtime.engine import OpenEngine, open_engine
from app.runtime.providers import Provider
from app.runtime.session import OnnxSession

MOST_STREAMS = 4
"""Threads up to which each computes a batch of its own where nothing else is said. Only two were measured."""
IDLE_S = 0.2
"""Seconds that every session gets to end: where one of several was lost, the others have nothing to do, or are told to stop."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """What computes for one model."""

    alone: OnnxSession
    """Has every thread."""
    beside: Sequence[OnnxSession] = ()
    """Share the threads. With one each they have one engine together, and the weights lie in memory once more, not for each."""

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
        if self.beside and patience_s is not None:
            patience_s = max(patience_s, IDLE_S)
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
        num_streams: batches at the same time, at most one a thread, on ONNX Runtime's own CPU provider; 0: as many as threads,
            where those are few and the arithmetic is int8: in fp32 it gains next to nothing, and its weights are four times as
            large. Other providers compute one after the other: they have their own ways to keep a device busy.

    Raises:
        InvalidArtefact, ProviderUnavailable: as for `OnnxSession`.
    """
    alone = OnnxSession(graph_file, graph, provider, num_threads, opening)
    num_beside = _num_beside(num_streams, alone.num_threads, provider)
    if num_beside < 2:
        return Sessions(alone)
    threads_each = alone.num_threads // num_beside
    beside = [OnnxSession(graph_file, graph, provider, threads_each, opening)]
    if threads_each == 1:
        opening = beside[0].opened_again
    beside += [OnnxSession(graph_file, graph, provider, threads_each, opening) for _ in range(num_beside - 1)]
    return Sessions(alone, beside)


def _num_beside(wished: int, num_threads: int, provider: Provider) -> int:
    if provider.device != "cpu":
        return 1
    pays = provider.precision == "int8" and num_threads <= MOST_STREAMS
    return min(wished or (num_threads if pays else 1), num_threads)

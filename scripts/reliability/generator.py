"""Load from a process of its own, whose processor time is told: it runs on the cores of the service that it measures."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop

from scripts.bench.load import Measured, closed_loop
from scripts.bench.open_loop import open_loop
from scripts.bench.service import Address

TICK_S = 0.002
"""Requests that are due within so many seconds are sent together: to wake up for each would take the service's cores."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent, and how long."""

    address: Address
    requests: Sequence[bytes]
    seconds: float


class Generator:
    """One process that makes load, until the block ends."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"))

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def closed(self, load: Load, connections: int) -> tuple[Measured, float]:
        """Callers who wait for each other, after a fifth of the time to warm up; and the processor seconds they cost."""
        return self._pool.submit(_closed, load, connections).result()

    def open(self, load: Load, rate: float) -> tuple[Measured, float]:
        """Callers who do not wait, so many a second; and the processor seconds they cost."""
        return self._pool.submit(_open, load, rate).result()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime


def _closed(load: Load, connections: int) -> tuple[Measured, float]:
    warm_up_s = load.seconds / 5
    address = load.address
    return _timed(lambda: closed_loop(address.host, address.port, load.requests, connections, load.seconds, warm_up_s))


def _open(load: Load, rate: float) -> tuple[Measured, float]:
    address = load.address
    return _timed(lambda: open_loop(address.host, address.port, load.requests, rate, load.seconds, tick_s=TICK_S))


def _timed(measure: Callable[[], Coroutine[Any, Any, Measured]]) -> tuple[Measured, float]:
    gc.collect()
    gc.disable()  # samples make no cycles, and a pause would be read as the service's
    began = time.process_time()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure()), time.process_time() - began
    finally:
        gc.enable()

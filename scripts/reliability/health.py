"""Health, asked again and again while something happens: liveness and readiness are not to feel it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from scripts.bench.service import Address

POLL_S = 0.25
PATHS = ("/health/live", "/health/ready")


@dataclass
class Health:
    """What was answered."""

    asked: int = 0
    failed: int = 0
    longest_s: float = 0.0
    failures: list[str] = field(default_factory=list)

    def ask(self, address: Address, path: str) -> None:
        began = time.perf_counter()
        self.asked += 1
        try:
            address.get(path)
        except OSError as error:  # of which urllib's own are kinds
            self.failed += 1
            self.failures.append(f"{path}: {error}")
        self.longest_s = max(self.longest_s, time.perf_counter() - began)

    def told(self) -> dict[str, Any]:
        return {"asked": self.asked, "failed": self.failed, "longest_ms": round(1000 * self.longest_s, 1)}


@contextmanager
def watched(address: Address, pause_s: float = POLL_S) -> Iterator[Health]:
    """Liveness and readiness, asked from a thread until the block ends; at least once."""
    health, over = Health(), threading.Event()

    def ask() -> None:
        while True:
            for path in PATHS:
                health.ask(address, path)
            if over.wait(pause_s):
                return

    thread = threading.Thread(target=ask, name="health")
    thread.start()
    try:
        yield health
    finally:
        over.set()
        thread.join()

"""Health, or another model, asked at its times while something else happens: how late the answers were, and which failed."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from scripts.bench.service import OK, Address

TIMEOUT_S = 300.0


@dataclass
class HealthLog:
    """Seconds from when each answer was due to be asked for until it was there, and what failed."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self.seconds) or [0.0]
        shares = {"p50_ms": 0.5, "p99_ms": 0.99, "longest_ms": 1.0}
        at = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in shares.items()}
        late = {name: round(1000 * seconds, 1) for name, seconds in at.items()}
        return {"asked": len(self.seconds), "failed": len(self.failures), **late}


@contextmanager
def watch_health(
    address: Address, every_s: float, paths: Sequence[str] = ("/health/live",), bodies: Mapping[str, Any] = {}
) -> Iterator[HealthLog]:
    """Ask each path every so many seconds, from a thread, until the block ends; what was due during a stall is late, too.

    Those paths that have one of the `bodies` are sent it as JSON.
    """
    log, is_over = HealthLog(), threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)
        due = time.perf_counter()
        while True:
            for path in paths:
                try:
                    body = json.dumps(bodies[path]) if path in bodies else None
                    connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"})
                    with connection.getresponse() as answer:
                        answer.read()
                        failure = "" if answer.status == OK else str(answer.status)
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    failure = repr(error)
                log.failures += [f"{path}: {failure}"] if failure else []
            now = time.perf_counter()
            while due <= now:
                log.seconds.append(now - due)
                due += every_s
            if is_over.wait(max(0.0, due - now)):
                break
        connection.close()

    thread = threading.Thread(target=ask, name="health")
    thread.start()
    try:
        yield log
    finally:
        is_over.set()
        thread.join()

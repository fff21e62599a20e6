"""Callers of a soak: some connections, each of which has always a request under way, with as little work as possible."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from scripts.bench.connection import FAILED, Connection
from scripts.reliability.soak_requests import Request

LEAVES_AFTER_S = 0.002
MAX_TOLD = 20


@dataclass
class Counts:
    """What became of the requests."""

    sent: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    failed: int = 0
    """Answered otherwise than they should have been, or not at all."""
    failures: list[str] = field(default_factory=list)

    def count(self, request: Request, status: int) -> None:
        self.kinds[request.kind] += 1
        if request.leaves:
            return
        self.statuses[status] += 1
        if status != request.status:
            self.failed += 1
            if len(self.failures) < MAX_TOLD:
                self.failures.append(f"{request.kind}: {status}, not {request.status}")

    def told(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "kinds": dict(sorted(self.kinds.items())),
            "statuses": {str(status): number for status, number in sorted(self.statuses.items())},
            "failed": self.failed,
            "failures": self.failures,
        }


async def send(host: str, port: int, requests: Iterator[Request], count: int, connections: int, counts: Counts) -> None:
    """Send so many of the requests, and wait for the last of them.

    Raises:
        OSError: nobody listens any more.
    """
    coming = islice(requests, count)

    async def call() -> None:
        connection = await Connection.to(host, port)
        for request in coming:
            counts.sent += 1
            if request.leaves:
                connection.send(request.message, lambda _: None)
                await asyncio.sleep(LEAVES_AFTER_S)
                connection.close()
                status = FAILED
            else:
                status = await connection.ask(request.message)
            counts.count(request, status)
            if status == FAILED:
                connection = await Connection.to(host, port)
        connection.close()

    async with asyncio.TaskGroup() as callers:
        for _ in range(connections):
            callers.create_task(call())

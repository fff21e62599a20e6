"""A deployment that requests hold, and the part that it plays for its name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.core.types import RoleName
from app.serving.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Role:
    """What a version does for its name."""

    name: RoleName
    share: float
    """Fraction of the requests that name no version which it answers."""


MAIN = Role("main", 1.0)
SHADOW = Role("shadow", 0.0)


def canary_role(share: float) -> Role:
    """Beside the main version, answering so many of its requests: above 0, at most 1."""
    return Role("share", share)


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """A version that is loaded."""

    deployment: Deployment
    role: Role


class LeasedDeployment:
    """Invariant: its deployment is closed only after every lease on it has ended, or its drain time has passed."""

    def __init__(self, deployment: Deployment, role: Role = MAIN) -> None:
        self.deployment, self.role = deployment, role
        self._num_leases = 0
        self._free = asyncio.Event()
        self._free.set()

    @property
    def version(self) -> int:
        return self.deployment.manifest.version

    @contextmanager
    def lease(self) -> Iterator[Deployment]:
        """The deployment, which stays open until the block ends."""
        self._num_leases += 1
        self._free.clear()
        try:
            yield self.deployment
        finally:
            self._num_leases -= 1
            if not self._num_leases:
                self._free.set()

    async def retire(self, drain_s: float) -> None:
        """Close it once nobody holds it, at the latest after so many seconds."""
        until = time.monotonic() + drain_s
        try:
            async with asyncio.timeout(drain_s):
                await self._free.wait()
        except TimeoutError:
            pass  # whoever still holds a lease is answered with Unavailable by the closing scheduler
        await self.deployment.aclose(max(0.0, until - time.monotonic()))

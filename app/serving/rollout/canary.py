"""Canaries: versions that run beside the main ones, one of a name at most."""

from __future__ import annotations

from collections.abc import Callable

from app.core.manifest import Manifest
from app.serving.deployment import Deployment
from app.serving.rollout.lease import LeasedDeployment, Role


class Canaries:
    """Which version runs beside which name's main one, and which requests it gets."""

    def __init__(self, draw: Callable[[], float]) -> None:
        """
        Args:
            draw: a number from 0 up to, not including, 1.
        """
        self._by_name: dict[str, LeasedDeployment] = {}
        self._random = draw

    def get(self, name: str) -> LeasedDeployment | None:
        return self._by_name.get(name)

    def put(self, entry: LeasedDeployment) -> LeasedDeployment | None:
        """The candidate that was there before."""
        name = entry.deployment.manifest.name
        old = self._by_name.get(name)
        self._by_name[name] = entry
        return old

    def take(self, name: str, deployment: Deployment | None = None) -> LeasedDeployment | None:
        """Remove the candidate of this name, where it is this deployment if one is given."""
        candidate = self._by_name.get(name)
        return self._by_name.pop(name) if candidate and deployment in (None, candidate.deployment) else None

    def give_role(self, name: str, version: int, role: Role) -> Deployment | None:
        """Let the candidate play another role; None where this version is no candidate that answers."""
        candidate = self._by_name.get(name)
        if candidate is None or candidate.version != version or not candidate.deployment.is_alive:
            return None
        candidate.role = role
        return candidate.deployment

    def draw(self, name: str) -> LeasedDeployment | None:
        """The candidate, where the next request falls to its share."""
        candidate = self._by_name.get(name)
        if candidate is None or not candidate.role.share or not candidate.deployment.is_alive:
            return None
        return candidate if self._random() < candidate.role.share else None

    def shadow(self, name: str) -> LeasedDeployment | None:
        """The candidate, where it is a shadow that would answer."""
        candidate = self._by_name.get(name)
        return candidate if candidate and candidate.role.name == "shadow" and candidate.deployment.is_alive else None


def unfit_reason(candidate: Manifest, main: Manifest) -> str:
    """Why one version cannot run beside the other; nothing where it can."""
    if candidate.version == main.version:
        return f"{main.name}/{main.version} is the main version itself; name another"
    if candidate.task != main.task:
        return f"{candidate.name}/{candidate.version} is for {candidate.task}, {main.name}/{main.version} for {main.task}"
    return ""

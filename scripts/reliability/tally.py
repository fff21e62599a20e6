"""What came of the cases: how many, with which statuses, and each that was answered as none may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_TOLD = 20
"""Failures that are described; all are counted."""
MAX_CHARACTERS = 400


def fault_of(status: int, has_deadline: bool) -> str | None:
    """Why no answer may have this status; None where it may.

    Args:
        status: of the answer.
        has_deadline: whether the request said how long it would wait. 504 is then what it asked for.
    """
    if status < 500 or (status == 504 and has_deadline):
        return None
    return f"answered with {status}"


@dataclass
class Tally:
    """One part of the cases."""

    num_cases: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    num_failures: int = 0
    failures: list[str] = field(default_factory=list)

    def answered(self, kind: str, status: int | None, what: object, has_deadline: bool = False) -> None:
        """Count a case that ended.

        Args:
            kind: what sort of case it was.
            status: of its answer; None where the connection ended without one, as it should.
            what: the case, for whoever looks into a failure.
            has_deadline: see `fault_of`.
        """
        self._count(kind, "closed" if status is None else str(status))
        fault = None if status is None else fault_of(status, has_deadline)
        if fault:
            self._fail(kind, fault, what)

    def hung(self, kind: str, seconds: float, what: object) -> None:
        """Count a case that had not ended after so long."""
        self._count(kind, "hung")
        self._fail(kind, f"had not ended after {seconds:g} s", what)

    def broke(self, kind: str, why: str, what: object) -> None:
        """Count a case that should have been answered, and whose connection ended instead."""
        self._count(kind, "broken")
        self._fail(kind, why, what)

    def add(self, other: Tally) -> None:
        """Count another's cases as well."""
        self.num_cases += other.num_cases
        self.statuses += other.statuses
        self.kinds += other.kinds
        self.num_failures += other.num_failures
        self.failures = [*self.failures, *other.failures][:MAX_TOLD]

    def told(self) -> Mapping[str, Any]:
        """For the report."""
        return {
            "cases": self.num_cases,
            "failed": self.num_failures,
            "statuses": dict(sorted(self.statuses.items())),
            "kinds": dict(sorted(self.kinds.items())),
            "failures": self.failures,
        }

    def _count(self, kind: str, outcome: str) -> None:
        self.num_cases += 1
        self.kinds[kind] += 1
        self.statuses[outcome] += 1

    def _fail(self, kind: str, fault: str, what: object) -> None:
        self.num_failures += 1
        if len(self.failures) < MAX_TOLD:
            self.failures.append(f"{kind} {fault}: {what!r}"[:MAX_CHARACTERS])

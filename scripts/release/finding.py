"""What a check of a release found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `ok` None: it could not be looked at here, and `detail` says why."""

    what: str
    ok: bool | None
    detail: str

    def __str__(self) -> str:
        return f"{'skip' if self.ok is None else 'ok  ' if self.ok else 'BAD '}  {self.what:<12}  {self.detail}"


def judged(what: str, problems: Sequence[str], good: str) -> Finding:
    """Good where there are no problems, else all of them (of many, the first)."""
    shown = [*problems[:SHOWN], *([f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else [])]
    return Finding(what, not problems, "; ".join(shown) or good)

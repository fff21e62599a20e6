"""Whether a process that died is started again: pure decisions over how often it died."""

from __future__ import annotations

from dataclasses import dataclass

QUICK_S = 10.0
"""A process that died sooner had hardly begun: another will hardly do better."""
MOST_QUICK = 5
"""So many quick deaths in a row are one too many."""
PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Deaths:
    """How often the process in one place has died."""

    num: int = 0
    num_quick: int = 0
    """In a row, up to now."""

    def after(self, lived_s: float) -> Deaths:
        return Deaths(self.num + 1, self.num_quick + 1 if lived_s < QUICK_S else 0)

    def too_many_because(self, name: str, most: int | None) -> str:
        """Why there is no use in another one; empty where there is.

        Args:
            name: of the process.
            most: how often it may be started again; None: as often as it lives for a while.
        """
        if most is not None and self.num > most:
            return f"the {name} process has died {self.num} times, of which {most} are made good (HOOPER_ENGINE_REPLACEMENTS)"
        if most is None and self.num_quick >= MOST_QUICK:
            return f"{name} has died {self.num_quick} times in a row within {QUICK_S:g} s of its start"
        return ""

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next: none after a long life, then longer and longer."""
        return 0.0 if not self.num_quick else float(min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (self.num_quick - 1)))

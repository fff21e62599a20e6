"""Streams: the engines of one model, and which of them takes the next batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.batching.policy import Budget
from app.batching.watchdog import Runner


@dataclass(frozen=True, slots=True)
class Turn:
    """An engine that may take a batch, and what it may take of all that waits."""

    runner: Runner
    budget: Budget


class Streams:
    """One engine computes alone, with every thread; others compute beside each other, with a share of the threads each.

    Alone is quickest for a single row. Side by side answers more of many rows: threads that do not work on the same batch
    never wait for each other, however often HTTP takes a core from one of them.

    Invariant: while the one that computes alone has a batch, no other has.
    """

    def __init__(self, alone: Runner, beside: Sequence[Runner] = ()) -> None:
        """
        Args:
            alone: has every thread.
            beside: share the threads; none, or two at least.
        """
        self._alone, self._beside = alone, tuple(beside)
        self._busy: list[Runner] = []

    @property
    def num_busy(self) -> int:
        return len(self._busy)

    def take(self, budget: Budget, num_waiting_rows: int, num_waiting_tokens: int) -> Turn | None:
        """An engine for the next batch, busy from now on; None where a batch must wait for one.

        Args:
            budget: what one batch may hold where an engine computes alone.
            num_waiting_rows, num_waiting_tokens: what waits, at least one row.
        """
        turn = self._turn(budget, num_waiting_rows, num_waiting_tokens)
        if turn is not None:
            self._busy.append(turn.runner)
        return turn

    def give_back(self, runner: Runner) -> None:
        """Its batch has ended."""
        self._busy.remove(runner)

    def _turn(self, budget: Budget, num_waiting_rows: int, num_waiting_tokens: int) -> Turn | None:
        num_beside = len(self._beside)
        if self._alone in self._busy:
            return None
        if not num_beside or (not self._busy and num_waiting_rows < num_beside):
            return Turn(self._alone, budget)
        free = [one for one in self._beside if one not in self._busy]
        return Turn(free[0], budget.shared(num_beside, len(free), num_waiting_tokens)) if free else None

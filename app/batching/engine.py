"""What the scheduler needs of an engine, and the engines of one model: which of them takes the next batch."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from typing import Protocol

from app.batching.policy import Budget
from app.core.sequences import Batch, SamplingParams, StepOutput
from app.core.types import Row


class Engine(Protocol):
    """Computes one step of a batch at a time. Owned by the scheduler, its caller; `app.runtime` satisfies it."""

    async def forward(self, batch: Batch) -> StepOutput: ...

    def release(self, slots: abc.Sequence[int]) -> None:
        """Forget what is kept in these cache slots; no step in progress uses them."""

    def terminate(self) -> None:
        """Tell the step in progress to stop; it may take its time, or never obey."""


@dataclass(frozen=True, slots=True)
class CacheRows:
    """Rows of a cache: all of them, and those that a sequence has."""

    num_rows: int
    num_used: int
    num_prefix_bytes: int = 0
    """Of the others, what beginnings of texts that were read before take."""


class SlotCache(Protocol):
    """Slots in which an engine keeps what its generating sequences need again, each of as many rows as its sequence needs."""

    @property
    def num_rows(self) -> int:
        """All of them."""

    @property
    def num_free(self) -> int:
        """Rows of no slot."""

    @property
    def num_prefix_bytes(self) -> int:
        """Of those, what beginnings of texts that were read before take; they are no less free for it."""

    def allocate(self, num_rows: int) -> int:
        """A slot of so many rows, in use from now on; called only where there are as many."""

    def free(self, slot: int) -> None: ...

    def check(self, row: Row, sampling: SamplingParams) -> None:
        """
        Raises:
            TooLarge: the sequence could never be generated, however long it waited.
        """


@dataclass(frozen=True, slots=True)
class Assignment:
    """An engine that may take a batch, and what it may take of all that waits."""

    engine: Engine
    budget: Budget


class EnginePool:
    """The exclusive engine computes with every thread; the parallel ones share the threads, and compute at the same time.

    The exclusive one is quickest for a single row. Parallel ones answer more of many rows: threads that do not work on the same
    batch never wait for each other, however often HTTP takes a core from one of them.

    Invariant: while the exclusive engine has a batch, no other has.
    """

    def __init__(self, exclusive: Engine, parallel: abc.Sequence[Engine] = ()) -> None:
        """
        Args:
            exclusive: has every thread.
            parallel: share the threads; none, or two at least.
        """
        self._exclusive, self._parallel = exclusive, tuple(parallel)
        self._busy: list[Engine] = []

    @property
    def num_busy(self) -> int:
        return len(self._busy)

    def take(self, budget: Budget, num_waiting_rows: int, num_waiting_tokens: int) -> Assignment | None:
        """An engine for the next batch, busy from now on; None where a batch must wait for one.

        Args:
            budget: what one batch may hold on the exclusive engine.
        """
        assignment = self._assignment(budget, num_waiting_rows, num_waiting_tokens)
        if assignment is not None:
            self._busy.append(assignment.engine)
        return assignment

    def give_back(self, engine: Engine) -> None:
        """Its batch has ended."""
        self._busy.remove(engine)

    def release(self, slots: abc.Sequence[int]) -> None:
        """Have the exclusive engine, which alone keeps any, forget cache slots."""
        self._exclusive.release(slots)

    def _assignment(self, budget: Budget, num_waiting_rows: int, num_waiting_tokens: int) -> Assignment | None:
        num_parallel = len(self._parallel)
        if self._exclusive in self._busy:
            return None
        if not num_parallel or (not self._busy and num_waiting_rows < num_parallel):
            return Assignment(self._exclusive, budget)
        free = [engine for engine in self._parallel if engine not in self._busy]
        return Assignment(free[0], budget.shared(num_parallel, len(free), num_waiting_tokens)) if free else None

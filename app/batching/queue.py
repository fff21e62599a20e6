"""What waits for the engine: sequences in the order of arrival, interactive ones before bulk ones."""

from __future__ import annotations

from collections import abc, deque
from dataclasses import dataclass, field
from itertools import islice

from app.batching.policy import LOOKAHEAD_ROWS, Budget, offered, select
from app.batching.results import SubmittedSequence


@dataclass(eq=False, slots=True)
class ArrivalQueue:
    """Sequences of one priority in the order of arrival, with their tokens counted."""

    sequences: deque[SubmittedSequence] = field(default_factory=deque)
    num_tokens: int = 0

    def push(self, sequence: SubmittedSequence) -> None:
        self.sequences.append(sequence)
        self.num_tokens += sequence.row.num_tokens

    def head(self) -> list[SubmittedSequence]:
        """The sequences that a batch may be chosen from."""
        return list(islice(self.sequences, LOOKAHEAD_ROWS))

    def take(self, batch: abc.Iterable[SubmittedSequence]) -> None:
        """Remove these sequences of the head; those that they overtake keep their place."""
        remaining = set(batch)
        overtaken = []
        while remaining:
            sequence = self.sequences.popleft()
            if sequence in remaining:
                remaining.remove(sequence)
                self.num_tokens -= sequence.row.num_tokens
            else:
                overtaken.append(sequence)
        self.sequences.extendleft(reversed(overtaken))

    def drop(self, is_unwanted: abc.Callable[[SubmittedSequence], bool]) -> None:
        self.sequences = deque(sequence for sequence in self.sequences if not is_unwanted(sequence))
        self.num_tokens = sum(sequence.row.num_tokens for sequence in self.sequences)


@dataclass(eq=False, slots=True)
class PriorityQueue:
    """Everything that waits: interactive rows run first, and bulk rows take what those leave."""

    interactive: ArrivalQueue = field(default_factory=ArrivalQueue)
    bulk: ArrivalQueue = field(default_factory=ArrivalQueue)
    num_passed_over: int = 0
    """Batches in a row that left the oldest bulk row waiting."""

    @property
    def sequences(self) -> list[SubmittedSequence]:
        return [*self.interactive.sequences, *self.bulk.sequences]

    @property
    def num_rows(self) -> int:
        return len(self.interactive.sequences) + len(self.bulk.sequences)

    @property
    def num_tokens(self) -> int:
        return self.interactive.num_tokens + self.bulk.num_tokens

    def push(self, sequence: SubmittedSequence) -> None:
        (self.interactive if sequence.priority == "interactive" else self.bulk).push(sequence)

    def head(self) -> list[SubmittedSequence]:
        """The sequences that a batch may be chosen from."""
        return [*self.interactive.head(), *self.bulk.head()]

    def drop(self, is_unwanted: abc.Callable[[SubmittedSequence], bool]) -> int:
        """Remove sequences; how many there were."""
        before = self.num_rows
        self.interactive.drop(is_unwanted)
        self.bulk.drop(is_unwanted)
        return before - self.num_rows

    def choose(self, budget: Budget, num_free_rows: int | None = None) -> list[SubmittedSequence]:
        """The sequences to run next, all of them to be encoded or all to be generated; none where none can run. They wait on
        until they are taken.

        Args:
            num_free_rows: of the cache, for sequences that are generated; None: there are only sequences to encode. The first
                one that waits has its rows first: no later one of fewer rows keeps it waiting.
        """
        candidates = offered(self.interactive.head(), self.bulk.head(), self.num_passed_over)
        if num_free_rows is not None:
            generating = [sequence for sequence in candidates if sequence.sampling is not None]
            if generating and generating[0] is candidates[0] and generating[0].num_cache_rows <= num_free_rows:
                candidates = list(_fitting(generating, num_free_rows))
            else:
                candidates = [sequence for sequence in candidates if sequence.sampling is None]
        return [candidates[index] for index in select([sequence.row.num_tokens for sequence in candidates], budget)]

    def take(self, batch: abc.Collection[SubmittedSequence]) -> None:
        """Remove what `choose` chose."""
        if not self.bulk.sequences:
            self.num_passed_over = 0
            self.interactive.take(batch)
            return
        self.num_passed_over = 0 if self.bulk.sequences[0] in batch else self.num_passed_over + 1
        self.interactive.take(sequence for sequence in batch if sequence.priority == "interactive")
        self.bulk.take(sequence for sequence in batch if sequence.priority == "bulk")


def _fitting(sequences: abc.Iterable[SubmittedSequence], num_rows: int) -> abc.Iterator[SubmittedSequence]:
    """Those that together need no more rows, in order; one that needs more than are left is passed over."""
    for sequence in sequences:
        if sequence.num_cache_rows <= num_rows:
            num_rows -= sequence.num_cache_rows
            yield sequence

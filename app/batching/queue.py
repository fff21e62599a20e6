"""What waits for the engine: submissions, their rows, and the two lanes in which the rows stand."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice

from app.batching.events import Reason
from app.batching.policy import LOOKAHEAD_ROWS, Budget, offered, select
from app.core.errors import DeadlineExceeded, HooperError
from app.core.types import Priority, Row, RowOutput

TIMER_SLACK_S = 0.005
"""uvloop's timers count whole milliseconds: a caller may be told of a deadline a moment before it has passed."""

DEADLINE_PASSED = "the deadline passed before the engine answered"
"""What a caller is told, whether its own timer or the scheduler comes across the deadline first."""

PRIORITIES: tuple[Priority, ...] = ("interactive", "bulk")


@dataclass(frozen=True, slots=True)
class SubmissionResult:
    """A submission's outputs, in the order of its rows, and where its time went."""

    outputs: Sequence[RowOutput | HooperError]
    queue_s: float
    """From submission until its first row reached the engine."""
    inference_s: float
    """Spent in the engine, summed over the batches that held its rows; of those that ran side by side, no more than passed."""
    batch_rows: int = 0
    """Rows of the largest of those batches, other callers' included; 0 where none ran."""
    batch_tokens: int = 0
    """Tokens of the one that had most, in the same way."""


@dataclass(eq=False, slots=True)
class Submission:
    future: asyncio.Future[SubmissionResult]
    outputs: list[RowOutput | HooperError | None]
    missing: int
    deadline: float | None
    submitted: float
    started: float = math.inf
    num_running: int = 0
    """Batches in engines that hold rows of it."""
    is_split: bool = False
    """Whether two of them ran at the same time."""
    inference_s: float = 0.0
    batch_rows: int = 0
    batch_tokens: int = 0

    def answer(self, index: int, output: RowOutput | HooperError) -> None:
        self.outputs[index] = output
        self.missing -= 1
        if self.missing == 0 and not self.future.done():
            outputs = [output for output in self.outputs if output is not None]
            queue_s = self.started - self.submitted
            self.future.set_result(SubmissionResult(outputs, queue_s, self.inference_s, self.batch_rows, self.batch_tokens))

    def refuse(self, error: HooperError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(frozen=True, eq=False, slots=True)
class Waiting:
    row: Row
    submission: Submission
    index: int


@dataclass(eq=False, slots=True)
class Lane:
    """Rows of one priority in the order of arrival, with their tokens counted."""

    rows: deque[Waiting] = field(default_factory=deque)
    num_tokens: int = 0

    def push(self, waiting: Waiting) -> None:
        self.rows.append(waiting)
        self.num_tokens += waiting.row.num_tokens

    def head(self) -> list[Waiting]:
        """The rows that a batch may be chosen from."""
        return list(islice(self.rows, LOOKAHEAD_ROWS))

    def take(self, chosen: Collection[Waiting]) -> None:
        """Remove these rows of the head; those that they overtake keep their place."""
        left = set(chosen)
        overtaken = []
        while left:
            one = self.rows.popleft()
            if one in left:
                left.remove(one)
                self.num_tokens -= one.row.num_tokens
            else:
                overtaken.append(one)
        self.rows.extendleft(reversed(overtaken))

    def drop(self, unwanted: Callable[[Waiting], bool]) -> None:
        self.rows = deque(one for one in self.rows if not unwanted(one))
        self.num_tokens = sum(one.row.num_tokens for one in self.rows)


@dataclass(eq=False, slots=True)
class Queue:
    """Everything that waits: interactive rows run first, and bulk rows take what those leave."""

    lanes: dict[Priority, Lane] = field(default_factory=lambda: {priority: Lane() for priority in PRIORITIES})
    num_passed_over: int = 0
    """Batches in a row that left the oldest bulk row waiting."""

    @property
    def rows(self) -> list[Waiting]:
        return [one for lane in self.lanes.values() for one in lane.rows]

    @property
    def num_rows(self) -> int:
        return sum(len(lane.rows) for lane in self.lanes.values())

    @property
    def num_tokens(self) -> int:
        return sum(lane.num_tokens for lane in self.lanes.values())

    def drop(self, unwanted: Callable[[Waiting], bool]) -> int:
        """Remove rows; how many there were."""
        before = self.num_rows
        for lane in self.lanes.values():
            lane.drop(unwanted)
        return before - self.num_rows

    def next_batch(self, budget: Budget) -> list[Waiting]:
        """Take the rows to run now; none where none wait."""
        heads = {priority: lane.head() for priority, lane in self.lanes.items()}
        bulk = heads["bulk"]
        candidates = offered(heads["interactive"], bulk, self.num_passed_over)
        chosen = [candidates[index] for index in select([one.row.num_tokens for one in candidates], budget)]
        self.num_passed_over = self.num_passed_over + 1 if bulk and bulk[0] not in chosen else 0
        for priority, head in heads.items():
            self.lanes[priority].take(set(head).intersection(chosen))
        return chosen


def unwanted_because(waiting: Waiting, now: float) -> Reason | None:
    """Why nobody wants this row's answer any more; None where somebody does. A passed deadline is told to the caller."""
    submission = waiting.submission
    if submission.deadline is not None and submission.deadline <= now:
        submission.refuse(DeadlineExceeded(DEADLINE_PASSED))
        return "deadline"
    if not submission.future.done():
        return None
    is_late = submission.deadline is not None and submission.deadline <= now + TIMER_SLACK_S
    return "deadline" if is_late else "client_left"

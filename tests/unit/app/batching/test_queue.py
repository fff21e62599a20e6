"""What waits: whose answer nobody wants any more, and why."""

from __future__ import annotations

import asyncio

import pytest

from app.batching.queue import DEADLINE_PASSED, TIMER_SLACK_S, Submission, Waiting, unwanted_because
from app.core.errors import DeadlineExceeded, Unavailable
from tests.support.tiny_model import row

DEADLINE = 100.0


@pytest.fixture
async def waiting() -> Waiting:
    """A row with a deadline, whose caller is there."""
    future = asyncio.get_running_loop().create_future()
    return Waiting(row(1), Submission(future, [None], 1, DEADLINE, 0.0), 0)


async def test_a_row_is_wanted_until_its_deadline(waiting: Waiting) -> None:
    assert unwanted_because(waiting, DEADLINE - TIMER_SLACK_S / 2) is None
    assert not waiting.submission.future.done()


async def test_the_caller_of_a_row_whose_deadline_has_passed_is_told(waiting: Waiting) -> None:
    assert unwanted_because(waiting, DEADLINE) == "deadline"
    with pytest.raises(DeadlineExceeded, match=DEADLINE_PASSED):
        await waiting.submission.future


@pytest.mark.parametrize(
    ("now", "reason"), [(DEADLINE - 2 * TIMER_SLACK_S, "client_left"), (DEADLINE - TIMER_SLACK_S / 2, "deadline")]
)
async def test_a_caller_who_left_a_moment_before_the_deadline_left_because_of_it(
    waiting: Waiting, now: float, reason: str
) -> None:
    waiting.submission.future.cancel()
    assert unwanted_because(waiting, now) == reason


async def test_who_was_told_once_is_not_told_again(waiting: Waiting) -> None:
    for why in ("first", "second"):
        waiting.submission.refuse(Unavailable(why))
    with pytest.raises(Unavailable, match="first"):
        await waiting.submission.future

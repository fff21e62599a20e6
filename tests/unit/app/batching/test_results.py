"""Submissions: how they end, and why nobody wants their sequences any more."""

from __future__ import annotations

import pytest

from app.batching.results import DEADLINE_PASSED, TIMER_SLACK_S, Submission, SubmittedSequence, cancel_reason
from app.core.errors import DeadlineExceeded, Unavailable
from tests.support.tiny_model import row

DEADLINE = 100.0


@pytest.fixture
async def waiting() -> SubmittedSequence:
    """A row with a deadline, whose caller is there."""
    (sequence,) = Submission([row(1)], None, DEADLINE, "interactive", lambda *_: None).sequences
    return sequence


async def test_a_row_is_wanted_until_its_deadline(waiting: SubmittedSequence) -> None:
    assert cancel_reason(waiting, DEADLINE - TIMER_SLACK_S / 2) is None
    assert not waiting.submission.future.done()


async def test_the_caller_of_a_row_whose_deadline_has_passed_is_told(waiting: SubmittedSequence) -> None:
    assert cancel_reason(waiting, DEADLINE) == "deadline"
    with pytest.raises(DeadlineExceeded, match=DEADLINE_PASSED):
        await waiting.submission.future


@pytest.mark.parametrize(
    ("now", "reason"), [(DEADLINE - 2 * TIMER_SLACK_S, "client_left"), (DEADLINE - TIMER_SLACK_S / 2, "deadline")]
)
async def test_a_caller_who_left_a_moment_before_the_deadline_left_because_of_it(
    waiting: SubmittedSequence, now: float, reason: str
) -> None:
    waiting.submission.future.cancel()
    assert cancel_reason(waiting, now) == reason


async def test_who_was_told_once_is_not_told_again(waiting: SubmittedSequence) -> None:
    for why in ("first", "second"):
        waiting.submission.refuse(Unavailable(why))
    with pytest.raises(Unavailable, match="first"):
        await waiting.submission.future

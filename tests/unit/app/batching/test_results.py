"""Submissions: how they end, and why nobody wants their sequences any more."""

from __future__ import annotations

import gc
import weakref

import numpy as np
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


def new_submission() -> Submission:
    return Submission([row(1)], None, None, "interactive", lambda *_: None)


async def test_a_submission_that_has_its_answer_is_freed_without_the_garbage_collector() -> None:
    submission = new_submission()
    (sequence,) = submission.sequences
    logits = np.zeros(2, np.float32)
    freed = weakref.ref(logits)
    submission.deliver(sequence, {"logits": logits}, is_last=True)
    gc.disable()
    try:
        await submission.result()
        del submission, sequence, logits
        assert freed() is None
    finally:
        gc.enable()


async def test_a_refusal_that_nobody_asks_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    submission = new_submission()
    submission.refuse(Unavailable("closed"))
    del submission
    gc.collect()
    assert not caplog.records

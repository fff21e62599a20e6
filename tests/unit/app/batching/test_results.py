"""Submissions: how they end, and why nobody wants their sequences any more."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref

import numpy as np
import pytest

from app.batching.results import (
    DEADLINE_PASSED,
    TIMER_SLACK_S,
    DropReason,
    StreamedStep,
    Submission,
    SubmittedSequence,
    cancel_reason,
)
from app.core.errors import DeadlineExceeded, Unavailable
from tests.support.gated_engine import turn
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


# --- what the scheduler is told of a caller that leaves


class Told:
    """Keeps the reasons with which submissions ended."""

    def __init__(self) -> None:
        self.reasons: list[DropReason] = []

    def submit(self, deadline: float | None = None, num_rows: int = 1) -> Submission:
        rows = [row(number) for number in range(num_rows)]
        return Submission(rows, None, deadline, "interactive", lambda _, reason: self.reasons.append(reason))


async def test_who_closes_a_stream_early_has_left() -> None:
    told = Told()
    submission = told.submit()
    submission.deliver(submission.sequences[0], {"logits": np.zeros(2)}, is_last=False)
    async with contextlib.aclosing(submission.stream()) as steps:
        await anext(steps)
    assert told.reasons == ["client_left"]
    assert submission.future.cancelled()


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_deadline_that_passes_is_the_reason_however_the_answer_is_read(is_streamed: bool) -> None:
    told = Told()
    submission = told.submit(deadline=time.monotonic() - 1)
    with pytest.raises(DeadlineExceeded, match=DEADLINE_PASSED):
        await (anext(submission.stream()) if is_streamed else submission.result())
    assert told.reasons == ["deadline"]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_deadline_that_the_scheduler_came_across_first_is_the_reason_too(is_streamed: bool) -> None:
    told = Told()
    submission = told.submit()
    submission.refuse(DeadlineExceeded(DEADLINE_PASSED))
    with pytest.raises(DeadlineExceeded):
        await (anext(submission.stream()) if is_streamed else submission.result())
    assert told.reasons == ["deadline"]


async def test_who_cancels_a_submission_has_left_unless_another_reason_is_given() -> None:
    told = Told()
    told.submit().cancel()
    told.submit().cancel("deadline")
    assert told.reasons == ["client_left", "deadline"]


async def test_a_stream_that_begins_late_says_whose_each_step_is() -> None:
    submission = Told().submit(num_rows=2)
    for sequence, is_last in zip(submission.sequences, (False, True), strict=True):
        submission.deliver(sequence, {"logits": np.zeros(2)}, is_last)
    async with contextlib.aclosing(submission.stream()) as steps:
        shown = [await anext(steps) for _ in range(2)]
    assert [(step.index, step.is_last) for step in shown] == [(0, False), (1, True)]
    assert isinstance(shown[0], StreamedStep)


async def test_a_stream_has_a_step_once_it_is_told() -> None:
    submission = Told().submit()
    async with contextlib.aclosing(submission.stream()) as steps:
        following = asyncio.ensure_future(anext(steps))
        await asyncio.sleep(0)
        submission.deliver(submission.sequences[0], {"logits": np.zeros(2)}, is_last=False)
        await turn()
        assert not following.done()
        submission.tell()
        submission.tell()
        assert not (await following).is_last
        submission.deliver(submission.sequences[0], {"logits": np.zeros(2)}, is_last=True)  # its end tells all
        assert [step.is_last async for step in steps] == [True]


async def test_an_answer_without_a_step_names_no_batch() -> None:
    submission = Told().submit()
    submission.deliver(submission.sequences[0], Unavailable("closed"), is_last=True)
    result = await submission.result()
    assert (result.inference_s, result.batch_rows, result.batch_tokens) == (0.0, 0, 0)
    assert submission.is_split is False


async def test_after_its_end_a_submission_refers_to_no_sequence() -> None:
    submission = Told().submit()
    waiting = asyncio.ensure_future(submission.result())
    await asyncio.sleep(0)
    submission.deliver(submission.sequences[0], {"logits": np.zeros(2)}, is_last=True)
    await waiting
    assert submission.sequences == []

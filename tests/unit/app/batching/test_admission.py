"""How long a caller who is turned away should stay away."""

import pytest

from app.batching.admission import MAX_RETRY_S, MIN_RETRY_S, DrainRate, QueueLimit


def test_before_anything_ran_the_caller_is_told_the_least() -> None:
    assert DrainRate().seconds_for(1_000_000) == MIN_RETRY_S


def test_the_wait_is_the_backlog_at_the_measured_rate() -> None:
    rate = DrainRate()
    rate.ran(num_tokens=200, seconds=2.0)
    assert rate.seconds_for(1000) == pytest.approx(10.0)


def test_the_wait_lies_between_one_second_and_a_minute() -> None:
    rate = DrainRate()
    rate.ran(num_tokens=100, seconds=1.0)
    assert rate.seconds_for(0) == MIN_RETRY_S
    assert rate.seconds_for(1_000_000) == MAX_RETRY_S


def test_the_rate_follows_what_was_measured_lately_without_jumping() -> None:
    rate = DrainRate()
    rate.ran(100, 1.0)
    rate.ran(200, 1.0)
    assert rate.seconds_for(1200) == pytest.approx(10.0)  # 120 tokens/s
    for _ in range(50):
        rate.ran(200, 1.0)
    assert rate.seconds_for(1200) == pytest.approx(6.0, rel=1e-3)


def test_a_batch_too_quick_to_be_measured_is_no_division_by_zero() -> None:
    rate = DrainRate()
    rate.ran(100, 0.0)
    assert rate.seconds_for(1000) == MIN_RETRY_S


def test_bulk_rows_have_half_of_the_queue_and_a_place_in_the_smallest() -> None:
    assert QueueLimit(50, 1001).of("bulk") == QueueLimit(25, 500)
    assert QueueLimit(1, 1).of("bulk") == QueueLimit(1, 1)
    assert QueueLimit(50, 1001).of("interactive") == QueueLimit(50, 1001)


def test_time_spent_on_steps_that_take_nothing_off_the_queue_counts() -> None:
    rate = DrainRate()
    rate.ran(100, 1.0)
    rate.decoded(1.0)
    assert rate.seconds_for(800) == pytest.approx(10.0)  # already now: 100 tokens in 1.25 s
    rate.ran(100, 1.0)
    assert rate.seconds_for(1000) == pytest.approx(12.0)  # 0.8 of 1 s, and 0.2 of 2
    rate.ran(100, 1.0)
    assert rate.seconds_for(1000) == pytest.approx(11.6)  # once


def test_the_rate_is_that_of_all_batches_together_however_unlike_they_are() -> None:
    rate = DrainRate()
    for _ in range(100):  # what is admitted waits for many steps, or for none: 20 tokens in 10 s
        rate.ran(10, 0.0)
        rate.decoded(10.0)
        rate.ran(10, 0.0)
    assert rate.seconds_for(20) == pytest.approx(10.0, rel=0.15)


def test_while_nothing_is_admitted_the_wait_grows() -> None:
    rate = DrainRate()
    rate.ran(100, 1.0)
    waits = []
    for _ in range(4):
        rate.decoded(4.0)
        waits.append(rate.seconds_for(200))
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(4.0)


def test_the_time_of_every_decoding_step_counts_until_the_next_batch() -> None:
    rate = DrainRate()
    for _ in range(3):
        rate.decoded(1.0)
    rate.ran(10, 1.0)  # 10 tokens in 4 s
    assert rate.seconds_for(25) == pytest.approx(10.0)

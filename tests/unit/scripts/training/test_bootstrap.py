"""The paired bootstrap: an interval around the difference of two answerers on the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.training.bootstrap import paired_difference


def test_the_interval_is_about_that_of_a_normal_distribution() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.5, 1, 400), rng.normal(0.0, 1, 400)
    difference = paired_difference(first, second)
    assert difference is not None
    assert difference.mean == pytest.approx((first - second).mean())
    half = 1.96 * (first - second).std(ddof=1) / 400**0.5
    assert (difference.low, difference.high) == pytest.approx((difference.mean - half, difference.mean + half), abs=0.03)
    assert difference.is_better
    assert not difference.is_worse


def test_who_is_better_on_few_rows_may_be_chance() -> None:
    difference = paired_difference([1, 1, 0, 1], [1, 0, 1, 0])
    assert difference is not None
    assert (difference.is_better, difference.is_worse, difference.rows) == (False, False, 4)


def test_the_same_rows_give_the_same_interval_and_the_order_of_both_turns_it() -> None:
    scores, others = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    there, back = paired_difference(scores, others), paired_difference(others, scores)
    assert there == paired_difference(scores, others)
    assert there is not None
    assert back is not None
    assert there.is_worse
    assert back.is_better
    assert there.as_json()["mean"] == -0.8333


def test_rows_that_differ_alike_have_an_interval_of_no_width() -> None:
    difference = paired_difference([1.0] * 5, [0.0] * 5)
    assert difference is not None
    assert (difference.low, difference.mean, difference.high) == (1, 1, 1)


def test_there_is_none_of_one_row_or_of_what_is_no_number() -> None:
    assert paired_difference([1.0], [0.0]) is None
    assert paired_difference([1.0, float("nan")], [0.0, 1.0]) is None

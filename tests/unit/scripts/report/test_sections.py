"""Metrics by length of the text."""

from __future__ import annotations

import pytest

from scripts.report.sections import by_length, wilson


def test_lengths_are_grouped_by_rows_with_an_interval() -> None:
    groups = by_length([*range(60)], [1.0] * 30 + [0.0] * 30, True)
    assert [group["tokens"] for group in groups] == [[0, 9], [10, 19], [20, 29], [30, 39], [40, 49], [50, 59]]
    assert [group["mean"] for group in groups] == [1, 1, 1, 0, 0, 0]
    assert groups[0]["low"] == pytest.approx(wilson(1.0, 10)[0], abs=1e-4)


def test_texts_of_one_length_are_one_group() -> None:
    (group,) = by_length([7] * 100, [0.5] * 100, False)
    assert (group["tokens"], group["rows"], group["low"], group["high"]) == ([7, 7], 100, 0.5, 0.5)


def test_wilson_is_as_published() -> None:
    assert wilson(0.5, 10) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson(1.0, 10)[1] == 1.0

"""How many tokens a run reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.training.workload import Workload


def test_an_epoch_of_short_rows_reads_less() -> None:
    assert Workload.of([4, 10], [6, 12]).tokens == [10, 14]
    assert Workload.of([4, 10], []).tokens == [14]


def test_the_last_epoch_stands_for_all_later_ones() -> None:
    workload = Workload([10, 14])
    assert [workload.until(epoch) for epoch in (0, 0.5, 1, 1.5, 2, 4)] == [0, 5, 10, 17, 24, 52]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.floats(0, 9))
def test_tokens_and_epochs_are_two_names_of_one_thing(tokens: list[int], epochs: float) -> None:
    workload = Workload(tokens)
    assert workload.epochs_for(workload.until(epochs)) == pytest.approx(epochs, abs=1e-6)

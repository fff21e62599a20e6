"""Rows of similar length run together, within a budget of padded tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.core.types import Row
from scripts.training.batches import token_batches


def rows_of(lengths: list[int]) -> list[Row]:
    return [Row([0] * length, [0] * length) for length in lengths]


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100))
def test_every_row_is_in_one_batch_and_only_a_lone_row_exceeds_the_budget(lengths: list[int], budget: int) -> None:
    batches = token_batches(rows_of(lengths), budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


def test_rows_of_similar_length_share_a_batch() -> None:
    assert token_batches(rows_of([2, 30, 2, 30]), 60) == [[1, 3], [0, 2]]

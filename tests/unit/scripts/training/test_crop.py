"""A cropped row keeps what says most."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.core.types import Row
from scripts.training.crop import head_and_tail


@given(st.integers(1, 60), st.integers(2, 70))
def test_a_long_row_keeps_both_its_ends(length: int, limit: int) -> None:
    row = Row(list(range(length)), [index % 2 for index in range(length)])
    cut = head_and_tail(row, limit)
    assert cut.num_tokens == len(cut.token_type_ids) == min(length, limit)
    assert (cut.input_ids[0], cut.input_ids[-1]) == (0, length - 1)
    assert [index % 2 for index in cut.input_ids] == list(cut.token_type_ids)

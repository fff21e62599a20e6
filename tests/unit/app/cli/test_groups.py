"""Groups of inputs: the same whenever they are read, or a group that is answered again would not be the one that was lost."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.cli.groups import in_groups
from app.cli.inputs import Asked

LENGTHS = st.lists(st.integers(0, 30), max_size=40)


def asked(lengths: list[int]) -> list[Asked]:
    return [Asked("in.txt", line, {"text": "x"}, num_characters=length) for line, length in enumerate(lengths, start=1)]


@given(LENGTHS)
def test_each_row_is_in_one_group_in_order(lengths: list[int]) -> None:
    groups = list(in_groups(asked(lengths), 4, 50))
    assert [one.line for group in groups for one in group] == list(range(1, len(lengths) + 1))


@given(LENGTHS)
def test_no_group_is_larger_than_it_may_be_but_one_of_a_single_long_row(lengths: list[int]) -> None:
    for group in in_groups(asked(lengths), 4, 20):
        assert 1 <= len(group) <= 4
        assert len(group) == 1 or sum(one.num_characters for one in group) <= 20


@given(LENGTHS)
def test_a_group_ends_only_where_the_next_row_has_no_room(lengths: list[int]) -> None:
    groups = list(in_groups(asked(lengths), 4, 20))
    for group, following in pairwise(groups):
        assert len(group) == 4 or sum(one.num_characters for one in [*group, following[0]]) > 20

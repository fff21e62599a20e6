"""A batch is cut into tensors that hold every row once and cost as little as any single tensor of a fixed width."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.types import LayoutName
from app.runtime.layout import num_computed_tokens, plan
from app.runtime.shapes import Part, cost, parts

layouts = st.sampled_from(get_args(LayoutName))
lengths = st.lists(st.integers(1, 512), min_size=1, max_size=60)


def waste(made: list[Part], sizes: list[int]) -> float:
    return sum(num_computed_tokens(part.where) for part in made) / sum(sizes)


@given(lengths, layouts)
def test_every_row_lies_in_one_tensor_and_overlaps_no_other(sizes: list[int], layout: LayoutName) -> None:
    made = parts(sizes, layout)
    assert sorted(index for part in made for index in part.indices) == list(range(len(sizes)))
    for part in made:
        taken = [
            (place.line, column)
            for index, place in zip(part.indices, part.where.places, strict=True)
            for column in range(place.start, place.start + sizes[index])
        ]
        assert len(taken) == len(set(taken))
        assert {line for line, _ in taken} == set(range(part.where.height)), "a tensor row without a row"
        assert max(column for _, column in taken) < part.where.width


@given(lengths, layouts)
def test_no_single_tensor_of_the_usual_width_is_cheaper(sizes: list[int], layout: LayoutName) -> None:
    usual = [Part(range(len(sizes)), plan(sizes, layout, fixed_shapes=False))]
    assert cost(parts(sizes, layout)) <= cost(usual)


@given(st.integers(1, 512), layouts)
def test_a_row_alone_has_a_tensor_of_its_own_length(size: int, layout: LayoutName) -> None:
    (part,) = parts([size], layout)
    assert (part.where.height, part.where.width) == (1, size)


@pytest.mark.parametrize("num_rows", [4, 8, 16, 32])
def test_short_rows_leave_next_to_nothing_empty(num_rows: int) -> None:
    sizes = [(7 * index) % 40 + 5 for index in range(num_rows)]
    assert waste(parts(sizes, "packed"), sizes) < 1.1
    assert len(parts(sizes, "packed")) == 1


def test_short_rows_are_not_widened_by_a_long_one() -> None:
    sizes = [20, 400, *[20] * 30]
    long, short = parts(sizes, "packed")
    assert (list(long.indices), long.where.width) == ([1], 400)
    assert short.where.width < 128


def test_padded_short_rows_are_not_padded_to_a_long_one() -> None:
    sizes = [20, 400, *[20] * 30]
    assert waste(parts(sizes, "padded"), sizes) == 1
    assert waste([Part(range(len(sizes)), plan(sizes, "padded", fixed_shapes=False))], sizes) > 10


def test_a_second_tensor_must_pay() -> None:
    assert len(parts([300, 290, 310, 280], "packed")) == 1
    assert len(parts([66, 62], "packed")) == 1, "the second tensor costs more than the two tokens of width"

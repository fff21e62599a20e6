"""A batch is cut into tensors that hold every row once and cost as little as any single tensor of a fixed width."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.types import LayoutName
from app.runtime.layout import Plan, num_computed_tokens, pack, plan
from app.runtime.shapes import ATTENTION_WIDTH, LONG, MAX_WIDTH, SLACKS, TENSOR_TOKENS, Part, cost, parts

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


# --- against a search without a short cut


def tensor_cost(where: Plan) -> float:
    return num_computed_tokens(where) * (1 + where.width / ATTENTION_WIDTH) + TENSOR_TOKENS


def cheapest_tensor(sizes: list[int], layout: LayoutName) -> float:
    """The usual tensor, or any whose rows hold all tokens with one of the slacks."""
    longest, costs = max(sizes), [tensor_cost(plan(sizes, layout, fixed_shapes=False))]
    if layout == "packed" and len(sizes) > 1:
        for height in range(1, len(sizes) + 1):
            width = math.ceil(sum(sizes) / height)
            if width <= max(MAX_WIDTH, longest):
                costs += [tensor_cost(pack(sizes, max(longest, math.ceil(width * slack)))) for slack in SLACKS]
    return min(costs)


def cheapest(sizes: list[int], layout: LayoutName) -> float:
    """One tensor, or two: rows longer than one of the limits, and the others."""
    costs = [cheapest_tensor(sizes, layout)]
    for limit in LONG:
        groups = [size for size in sizes if size > limit], [size for size in sizes if size <= limit]
        if all(groups):
            costs.append(sum(cheapest_tensor(group, layout) for group in groups))
    return min(costs)


mixed = st.lists(
    st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 128, 129, 192, 256, 300])), min_size=1, max_size=24
)


@given(mixed, layouts)
@example([64, 65, 1, 1], "padded")
@example([60, 60, 60, 12], "packed")
def test_it_is_as_cheap_as_the_best_of_all_candidates(sizes: list[int], layout: LayoutName) -> None:
    made = parts(sizes, layout)
    assert sum(tensor_cost(part.where) for part in made) == pytest.approx(cheapest(sizes, layout))
    assert cost(made) == pytest.approx(sum(tensor_cost(part.where) for part in made))


@given(mixed)
def test_padded_rows_never_share_a_tensor_row(sizes: list[int]) -> None:
    for part in parts(sizes, "padded"):
        assert [place.line for place in part.where.places] == list(range(len(part.indices)))


@given(mixed, layouts)
def test_of_tensors_that_cost_the_same_there_is_one(sizes: list[int], layout: LayoutName) -> None:
    made = parts(sizes, layout)
    whole = cheapest_tensor(sizes, layout)
    assert len(made) == (1 if whole <= cheapest(sizes, layout) else 2)

"""Rows go into tensors and come back as they were, whatever layout and shapes are used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.manifest import Graph, Output
from app.core.types import LayoutName, Row
from app.runtime.layout import (
    HEIGHTS,
    PACKED_WIDTH,
    WIDTHS,
    Limits,
    Plan,
    bucket,
    largest,
    num_computed_tokens,
    plan,
    split,
    to_tensors,
)
from tests.support.tiny_model import PACKED_INPUTS, PADDED_INPUTS, logits_of, packed_graph, padded_graph, row, run_rows

LAYOUTS = get_args(LayoutName)
PAD = 99
ALL_INPUTS = (*PACKED_INPUTS, "attention_mask")

layouts = st.sampled_from(LAYOUTS)
lengths = st.lists(st.integers(1, 512), min_size=1, max_size=80)


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    """Rows whose token ids are all different, so that a token in the wrong place shows."""
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=30))
    rows, next_id = [], 1000
    for size in sizes:
        ids = list(range(next_id, next_id + size))
        positions = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4))
        rows.append(Row(ids, [token % 2 for token in ids], positions))
        next_id += size
    return rows


def graph(*outputs: Output, inputs: tuple[str, ...] = ALL_INPUTS, position_offset: int = 0) -> Graph:
    return Graph(
        file="model.onnx",
        layout="packed",
        inputs=inputs,
        outputs=outputs or (Output(name="logits", axis="row"),),
        pad_token_id=PAD,
        position_offset=position_offset,
        storage="fp32",
    )


def tokens_of(rows: list[Row]) -> list[int]:
    return [row.num_tokens for row in rows]


def cells(where: Plan, sizes: list[int]) -> list[tuple[int, int]]:
    """Line and column of every token."""
    return [
        (place.line, column)
        for place, size in zip(where.places, sizes, strict=True)
        for column in range(place.start, place.start + size)
    ]


# places


@given(lengths, layouts, st.booleans())
def test_places_lie_inside_the_tensor_and_never_overlap(sizes: list[int], layout: LayoutName, fixed: bool) -> None:
    where = plan(sizes, layout, fixed)
    taken = cells(where, sizes)
    assert len(set(taken)) == len(taken) == sum(sizes)
    assert all(0 <= line < where.height and 0 <= column < where.width for line, column in taken)


@given(lengths, layouts)
def test_fixed_shapes_come_from_the_small_set(sizes: list[int], layout: LayoutName) -> None:
    where = plan(sizes, layout, fixed_shapes=True)
    assert where.width in WIDTHS
    assert where.height in HEIGHTS or where.height % HEIGHTS[-1] == 0


@given(lengths, layouts)
def test_fixed_shapes_are_the_smallest_that_hold_the_rows(sizes: list[int], layout: LayoutName) -> None:
    where = plan(sizes, layout, fixed_shapes=True)
    num_lines = len({place.line for place in where.places})
    assert where.height == bucket(num_lines, HEIGHTS)
    assert where.width <= max(bucket(max(sizes), WIDTHS), PACKED_WIDTH if layout == "packed" else 0)


@given(lengths)
def test_free_shapes_waste_no_line_and_no_column_when_padded(sizes: list[int]) -> None:
    where = plan(sizes, "padded", fixed_shapes=False)
    assert (where.height, where.width) == (len(sizes), max(sizes))
    assert [place.line for place in where.places] == list(range(len(sizes)))


@given(lengths, st.booleans())
def test_two_packed_lines_never_fit_into_one(sizes: list[int], fixed: bool) -> None:
    where = plan(sizes, "packed", fixed)
    filled: dict[int, int] = {}
    for place, size in zip(where.places, sizes, strict=True):
        filled[place.line] = filled.get(place.line, 0) + size
    emptiest = sorted(filled.values())[:2]
    assert len(emptiest) < 2 or sum(emptiest) > where.width


@given(lengths)
def test_packing_computes_less_than_twice_its_tokens_and_one_line(sizes: list[int]) -> None:
    where = plan(sizes, "packed", fixed_shapes=False)
    assert num_computed_tokens(where) < 2 * sum(sizes) + where.width


def test_packing_fills_wide_lines_with_short_rows() -> None:
    where = plan([10] * 24, "packed", fixed_shapes=False)
    assert (where.height, where.width) == (2, PACKED_WIDTH)


def test_few_short_rows_are_not_packed_wider_than_they_need() -> None:
    assert plan([5, 6], "packed", fixed_shapes=False) == plan([5, 6], "packed", fixed_shapes=True)
    assert plan([5, 6], "packed", fixed_shapes=False).width == 16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_longest_row_sets_the_width_rounded_up_only_where_shapes_are_fixed(layout: LayoutName) -> None:
    assert plan([200, 10], layout, fixed_shapes=False).width == 200
    assert plan([200, 10], layout, fixed_shapes=True).width == 256


def test_the_longest_rows_are_placed_first() -> None:
    where = plan([20, 100, 28, 108], "packed", fixed_shapes=False)
    assert where.height == 2, "in order of arrival, three lines would be needed"


def test_a_single_row_is_not_padded_unless_shapes_are_fixed() -> None:
    assert plan([17], "packed", fixed_shapes=False) == plan([17], "padded", fixed_shapes=False)
    assert num_computed_tokens(plan([17], "packed", fixed_shapes=False)) == 17
    assert num_computed_tokens(plan([17], "packed", fixed_shapes=True)) == 32


@pytest.mark.parametrize(("value", "size"), [(1, 16), (16, 16), (17, 32), (512, 512), (513, 1024), (1025, 1536)])
def test_a_bucket_is_the_next_size_and_beyond_the_list_a_multiple_of_the_last(value: int, size: int) -> None:
    assert bucket(value, WIDTHS) == size


def test_the_set_of_fixed_shapes_is_small_and_ascending() -> None:
    for sizes in (WIDTHS, HEIGHTS):
        assert list(sizes) == sorted(set(sizes))
    assert PACKED_WIDTH in WIDTHS
    assert len(WIDTHS) * len(HEIGHTS) <= 100, "an engine keeps about a megabyte for each shape it has met"


@given(some_rows(), layouts, st.sampled_from(["row", "token", "position"]))
def test_no_batch_within_its_limits_needs_a_larger_tensor(
    rows: list[Row], layout: LayoutName, axis: Literal["row", "token", "position"]
) -> None:
    sizes = tokens_of(rows)
    if axis != "position":
        rows = [Row(row.input_ids, row.token_type_ids) for row in rows]
    elif sum(len(row.output_positions) for row in rows) > sum(sizes):
        return  # a token marked twice or more is no limit's business
    cost = sum(sizes) if layout == "packed" else len(rows) * max(sizes)
    spec = graph(Output(name="y", axis=axis)).model_copy(update={"layout": layout})
    most = largest(spec, Limits(max(sizes), cost, len(rows)))
    where = plan(sizes, layout, fixed_shapes=True)
    assert where.height <= most.height
    assert where.width <= most.width
    assert len(to_tensors(rows, where, spec, True)["gather"]) <= most.gathered


def test_the_largest_tensor_of_a_packed_batch_is_not_as_high_as_it_has_rows() -> None:
    limits = Limits(max_tokens=512, max_batch_tokens=1024, max_batch_rows=64)
    packed, padded = (largest(graph().model_copy(update={"layout": name}), limits) for name in ("packed", "padded"))
    assert (packed.height, packed.width, packed.gathered) == (24, 512, 64)
    assert (padded.height, padded.width) == (64, 512)


# tensors


@given(some_rows(), layouts, st.booleans())
def test_every_row_is_found_whole_at_its_place(rows: list[Row], layout: LayoutName, fixed: bool) -> None:
    where = plan(tokens_of(rows), layout, fixed)
    tensors = to_tensors(rows, where, graph(position_offset=2), fixed)
    for number, (entry, place) in enumerate(zip(rows, where.places, strict=True), start=1):
        span = np.s_[place.line, place.start : place.start + entry.num_tokens]
        assert tensors["input_ids"][span].tolist() == list(entry.input_ids)
        assert tensors["token_type_ids"][span].tolist() == list(entry.token_type_ids)
        assert tensors["position_ids"][span].tolist() == list(range(2, 2 + entry.num_tokens))
        assert (tensors["segment_ids"][span] == number).all()
        assert (tensors["attention_mask"][span] == 1).all()


@given(some_rows(), layouts, st.booleans())
def test_what_is_no_row_is_padding(rows: list[Row], layout: LayoutName, fixed: bool) -> None:
    where = plan(tokens_of(rows), layout, fixed)
    tensors = to_tensors(rows, where, graph(), fixed)
    empty = np.ones((where.height, where.width), bool)
    empty[tuple(np.transpose(cells(where, tokens_of(rows))))] = False
    assert (tensors["input_ids"][empty] == PAD).all()
    for name in ("token_type_ids", "position_ids", "segment_ids", "attention_mask"):
        assert (tensors[name][empty] == 0).all()


@given(some_rows(), layouts, st.booleans())
def test_gather_points_at_every_marked_token_in_order(rows: list[Row], layout: LayoutName, fixed: bool) -> None:
    where = plan(tokens_of(rows), layout, fixed)
    tensors = to_tensors(rows, where, graph(), fixed)
    marked = [row.input_ids[position] for row in rows for position in row.output_positions]
    gathered = tensors["input_ids"].reshape(-1)[tensors["gather"]]
    assert gathered[: len(marked)].tolist() == marked
    assert len(gathered) == (bucket(len(marked), HEIGHTS) if fixed else len(marked))


@given(some_rows(), st.booleans())
def test_all_tensors_are_int64(rows: list[Row], fixed: bool) -> None:
    tensors = to_tensors(rows, plan(tokens_of(rows), "packed", fixed), graph(), fixed)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.int64)}


def test_only_the_inputs_that_the_graph_takes_are_made() -> None:
    rows = [row(2, 3)]
    tensors = to_tensors(rows, plan([2], "padded", False), graph(inputs=PADDED_INPUTS), False)
    assert tuple(tensors) == PADDED_INPUTS


def test_rows_are_not_laid_out_after_a_plan_for_others() -> None:
    rows = [row(2, 3), row(4, 5)]
    for where in (plan([2], "padded", False), plan([2, 2, 2], "padded", False)):
        with pytest.raises(ValueError, match="zip"):
            to_tensors(rows, where, graph(), False)
        with pytest.raises(ValueError, match="zip"):
            split([np.zeros((3, 2))], rows, where, graph())


# outputs


@given(some_rows(), layouts, st.booleans())
def test_every_row_gets_its_own_part_of_every_kind_of_output(rows: list[Row], layout: LayoutName, fixed: bool) -> None:
    spec = graph(Output(name="tokens", axis="token"), Output(name="marked", axis="position"), Output(name="whole", axis="row"))
    where = plan(tokens_of(rows), layout, fixed)
    tensors = to_tensors(rows, where, spec, fixed)
    tokens = tensors["input_ids"][..., None].astype(np.float32)  # (height, width, 1)
    marked = tokens.reshape(-1, 1)[tensors["gather"]]
    whole = np.arange(where.height * where.width, dtype=np.float32)[:, None]
    for number, (entry, output) in enumerate(zip(rows, split([tokens, marked, whole], rows, where, spec), strict=True)):
        assert output["tokens"][:, 0].tolist() == list(entry.input_ids)
        assert output["marked"][:, 0].tolist() == [entry.input_ids[position] for position in entry.output_positions]
        assert output["whole"].tolist() == [number]


def test_half_precision_outputs_come_back_as_float32() -> None:
    rows = [row(2, 3)]
    (output,) = split([np.ones((1, 2), np.float16)], rows, plan([2], "padded", False), graph())
    assert output["logits"].dtype == np.float32


@pytest.mark.parametrize("axis", ["row", "token", "position"])
def test_an_output_with_too_few_entries_is_refused(axis: Literal["row", "token", "position"]) -> None:
    rows = [row(2, 3, output_positions=(0, 1)), row(2, 3)]
    where = plan([2, 2], "padded", False)
    needed = 3 if axis == "position" else 2
    spec = graph(Output(name="logits", axis=axis))
    tensor = np.zeros((needed, 2, 1), np.float32)
    assert len(split([tensor], rows, where, spec)) == 2
    with pytest.raises(ValueError, match=f"logits has {needed - 1} entries, {needed} were expected"):
        split([tensor[1:]], rows, where, spec)


def test_an_output_that_is_missing_or_one_too_many_is_refused() -> None:
    rows, where = [row(2, 3)], plan([2], "padded", False)
    for produced in ([], [np.zeros((1, 2))] * 2):
        with pytest.raises(ValueError, match="zip"):
            split(produced, rows, where, graph())


# through a real graph


WORDS = [[2, *(4 + (7 * i + j) % 10 for j in range(1 + i % 13)), 3] for i in range(70)]
ROWS = [Row(ids, [int(j > 2) for j in range(len(ids))]) for ids in WORDS]


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("make", [packed_graph, padded_graph])
def test_a_row_does_not_feel_its_neighbours(tmp_path: Path, make: Callable[..., Graph], fixed: bool) -> None:
    path = tmp_path / "model.onnx"
    spec = make(path, num_labels=3)
    together = run_rows(path, spec, ROWS, fixed)
    assert len(together) == len(ROWS)
    for entry, output in zip(ROWS, together, strict=True):
        np.testing.assert_allclose(output["logits"], logits_of(entry, 3), rtol=1e-5, atol=1e-5)
        (alone,) = run_rows(path, spec, [entry], fixed)
        np.testing.assert_allclose(output["logits"], alone["logits"], rtol=1e-5, atol=1e-5)


# positions


def test_padding_that_stands_in_a_text_is_skipped_by_models_that_count_from_the_padding_id() -> None:
    """As transformers' create_position_ids_from_input_ids has it."""
    rows = [row(5, PAD, 6, PAD, PAD, 7), row(8, 9), row(PAD)]
    where = plan(tokens_of(rows), "packed", fixed_shapes=False)
    counted = to_tensors(rows, where, graph(position_offset=2), fixed_shapes=False)
    found = [
        counted["position_ids"][place.line, place.start : place.start + row.num_tokens].tolist()
        for row, place in zip(rows, where.places, strict=True)
    ]
    assert found == [[2, 1, 3, 1, 1, 4], [2, 3], [1]]


def test_padding_that_stands_in_a_text_is_a_token_like_another_for_other_models() -> None:
    rows = [row(5, PAD, 6)]
    tensors = to_tensors(rows, plan([3], "packed", fixed_shapes=False), graph(), fixed_shapes=False)
    assert tensors["position_ids"].tolist() == [[0, 1, 2]]
    assert tensors["attention_mask"].tolist() == [[1, 1, 1]]


def test_rows_of_a_graph_that_is_padded_on_the_left_end_where_their_tensor_row_ends() -> None:
    rows = [Row([5, 6, 7], [0, 0, 1], (0, 2)), Row([8], [0])]
    where = plan([3, 1], "padded", fixed_shapes=False)
    every = (Output(name="row", axis="row"), Output(name="token", axis="token"), Output(name="position", axis="position"))
    left = graph(*every).model_copy(update={"layout": "padded", "padding_side": "left"})
    tensors = to_tensors(rows, where, left, fixed_shapes=False)
    assert tensors["input_ids"].tolist() == [[5, 6, 7], [PAD, PAD, 8]]
    assert tensors["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert tensors["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert tensors["gather"].tolist() == [0, 2, 5]
    per_token = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    outputs = split([np.array([[10.0], [20.0]]), per_token, np.array([[0.0], [2.0], [5.0]])], rows, where, left)
    assert [output["token"][:, 0].tolist() for output in outputs] == [[0, 1, 2], [5]]
    assert [output["position"][:, 0].tolist() for output in outputs] == [[0, 2], [5]]

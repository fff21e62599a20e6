"""Rows to tensors and back, padded or packed. Pure: tasks and scheduler never see which layout ran.

Packed is what makes short texts cheap: several rows share one tensor row, the graph builds a block-diagonal attention mask
from their segment ids, and position ids restart for every row, so that no row feels its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.core.errors import EngineFailed
from app.core.manifest import Graph
from app.core.types import Ints, LayoutName, Row, RowOutput, Tensors

WIDTHS = (16, 32, 64, 128, 192, 256, 384, 512)
HEIGHTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
PACKED_WIDTH = 128
"""Rows are packed to at least this width where shapes are fixed, or dear: narrower tensors hold too few texts to fill, wider
ones cost attention. See `app.runtime.shapes` for where they are neither."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row lies: its tensor row, and its first token's column there."""

    line: int
    start: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Places of all rows in one tensor of `height` x `width` tokens."""

    places: Sequence[Place]
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What the batches of a model never exceed."""

    max_tokens: int
    """Of one row."""
    max_batch_tokens: int
    max_batch_rows: int


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest size of each axis of the input tensors; no single tensor need have them all."""

    height: int
    width: int
    gathered: int


def bucket(value: int, sizes: Sequence[int]) -> int:
    """Smallest listed size that holds the value; past the list, the next multiple of its last."""
    for size in sizes:
        if value <= size:
            return size
    last = sizes[-1]
    return -(-value // last) * last


def plan(lengths: Sequence[int], layout: LayoutName, fixed_shapes: bool) -> Plan:
    """Place rows of these lengths.

    Args:
        lengths: tokens of each row; at least one row.
        layout: `padded` puts one row in a tensor row, `packed` as many as fit.
        fixed_shapes: round the tensor up to a small set of shapes, for engines that compile per shape.
    """
    longest = max(lengths)
    width = bucket(longest, WIDTHS) if fixed_shapes else longest
    if layout == "packed" and len(lengths) > 1:
        where = pack(lengths, max(width, min(PACKED_WIDTH, bucket(sum(lengths), WIDTHS))))
    else:
        where = Plan([Place(line, 0) for line in range(len(lengths))], len(lengths), width)
    return replace(where, height=bucket(where.height, HEIGHTS)) if fixed_shapes else where


def pack(lengths: Sequence[int], width: int) -> Plan:
    """Rows side by side in as few tensor rows of a width as first fit decreasing finds.

    Args:
        lengths: tokens of each row, none more than the width; at least one row.
        width: of the tensor.
    """
    places = _first_fit_decreasing(lengths, width)
    return Plan(places, 1 + max(place.line for place in places), width)


def requested(graph: Graph, rows: Sequence[Row]) -> Graph:
    """The graph with the outputs that any of these rows wants."""
    wanted = {name for row in rows for name in row.extra_outputs}
    outputs = tuple(output for output in graph.outputs if not output.is_optional or output.name in wanted)
    return graph if len(outputs) == len(graph.outputs) else graph.model_copy(update={"outputs": outputs})


def largest(graph: Graph, limits: Limits) -> Largest:
    """The largest tensors that batches within these limits are laid out in where shapes are fixed."""
    height = limits.max_batch_rows
    if graph.layout == "packed":  # the two emptiest tensor rows never fit into one: on average they are more than half full
        height = min(height, 2 * limits.max_batch_tokens // PACKED_WIDTH + 1)
    a_row_each = all(output.axis != "position" for output in graph.outputs)
    gathered = limits.max_batch_rows if a_row_each else limits.max_batch_tokens
    return Largest(bucket(height, HEIGHTS), bucket(max(limits.max_tokens, PACKED_WIDTH), WIDTHS), bucket(gathered, HEIGHTS))


def to_tensors(rows: Sequence[Row], where: Plan, graph: Graph, fixed_shapes: bool) -> Tensors:
    """Fill the graph's input tensors, int64, with the rows at their places.

    `input_ids`, `token_type_ids`, `position_ids`, `segment_ids`, `attention_mask`: (height, width).
    `segment_ids` numbers the rows of a tensor row from 1; 0 is padding. `gather`: flat indices of the tokens whose outputs
    are read, row by row; padded with 0 to a fixed length where shapes are fixed.
    """
    shape = (where.height, where.width)
    input_ids = np.full(shape, graph.pad_token_id, np.int64)
    token_type_ids = np.zeros(shape, np.int64)
    position_ids = np.zeros(shape, np.int64)
    segment_ids = np.zeros(shape, np.int64)
    longest = max(row.num_tokens for row in rows)
    positions = np.arange(graph.position_offset, graph.position_offset + longest, dtype=np.int64)
    for number, (row, place) in enumerate(zip(rows, on_side(where, rows, graph), strict=True), start=1):
        span = slice(place.start, place.start + row.num_tokens)
        input_ids[place.line, span] = row.input_ids
        token_type_ids[place.line, span] = row.token_type_ids
        position_ids[place.line, span] = _positions(input_ids[place.line, span], positions, graph)
        segment_ids[place.line, span] = number
    tensors = {
        "input_ids": input_ids,
        "token_type_ids": token_type_ids,
        "position_ids": position_ids,
        "segment_ids": segment_ids,
        "attention_mask": (segment_ids > 0).astype(np.int64),
        "gather": _gather(rows, replace(where, places=on_side(where, rows, graph)), fixed_shapes),
    }
    return {name: tensors[name] for name in graph.inputs}


def split(outputs: Sequence[np.ndarray], rows: Sequence[Row], where: Plan, graph: Graph) -> list[RowOutput]:
    """Cut output tensors, in the graph's order, into each row's own part, as float32.

    A `row` or `position` output is (rows or positions, features) in a packed graph; a `token` output, and a `row` output of a
    padded graph, starts with (height, ...).

    Raises:
        ValueError: an output has fewer entries than rows were sent.
    """
    position_ends = np.cumsum([len(row.output_positions) for row in rows])
    results: list[dict[str, np.ndarray]] = [{} for _ in rows]
    for spec, tensor in zip(graph.outputs, outputs, strict=True):
        values = np.asarray(tensor, np.float32)
        expected = where.height if spec.axis == "token" else len(rows) if spec.axis == "row" else position_ends[-1]
        if values.shape[0] < expected:
            raise ValueError(f"output {spec.name} has {values.shape[0]} entries, {expected} were expected")
        for i, (row, place) in enumerate(zip(rows, on_side(where, rows, graph), strict=True)):
            if spec.axis == "row":
                results[i][spec.name] = values[i]
            elif spec.axis == "position":
                results[i][spec.name] = values[position_ends[i] - len(row.output_positions) : position_ends[i]]
            else:
                results[i][spec.name] = values[place.line, place.start : place.start + row.num_tokens]
    return list(results)


def check_shapes(outputs: Sequence[np.ndarray], tensors: Tensors, graph: Graph) -> None:
    """Compare output tensors with the input tensors that they answer: a row too many or too few, or one of another width,
    would deal rows each other's numbers.

    Raises:
        EngineFailed: an output is missing, or its first axes are not those of the input.
    """
    if len(outputs) != len(graph.outputs):
        raise EngineFailed(f"the engine gave {len(outputs)} outputs, the graph has {len(graph.outputs)}")
    height, width = tensors["input_ids"].shape
    flat = (len(tensors["gather"]),) if "gather" in tensors else (height,)
    for spec, tensor in zip(graph.outputs, outputs, strict=True):
        expected = (height, width) if spec.axis == "token" else flat
        shape = np.shape(tensor)
        if len(shape) != len(expected) + 1 or shape[:-1] != expected:
            raise EngineFailed(f"output {spec.name} has the shape {shape}, ({', '.join(map(str, expected))}, …) was expected")


def on_side(where: Plan, rows: Sequence[Row], graph: Graph) -> Sequence[Place]:
    """The places of rows, moved to the end of their tensor row where the graph is padded on the left."""
    if graph.padding_side == "right":
        return where.places
    return [replace(place, start=where.width - row.num_tokens) for row, place in zip(rows, where.places, strict=True)]


def num_computed_tokens(where: Plan) -> int:
    """Tokens the engine computes, padding included."""
    return where.height * where.width


def _first_fit_decreasing(lengths: Sequence[int], width: int) -> list[Place]:
    places: list[Place | None] = [None] * len(lengths)
    filled: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        line = next((i for i, num_filled in enumerate(filled) if num_filled + length <= width), len(filled))
        if line == len(filled):
            filled.append(0)
        places[index] = Place(line, filled[line])
        filled[line] += length
    return [place for place in places if place is not None]


def _positions(input_ids: Ints, positions: Ints, graph: Graph) -> Ints:
    """Position ids of a row's tokens. Models that number from the padding id + 1 skip padding, also where somebody wrote it in
    a text: transformers counts the ids that are none, and gives padding its own id as its position."""
    if graph.position_offset:
        counts = input_ids != graph.pad_token_id
        if not counts.all():
            return np.cumsum(counts) * counts + graph.position_offset - 1  # type: ignore[no-any-return]
    return positions[: len(input_ids)]


def _gather(rows: Sequence[Row], where: Plan, fixed_shapes: bool) -> Ints:
    flat = [
        place.line * where.width + place.start + position
        for row, place in zip(rows, where.places, strict=True)
        for position in row.output_positions
    ]
    size = bucket(len(flat), HEIGHTS) if fixed_shapes else len(flat)
    gathered = np.zeros(size, np.int64)
    gathered[: len(flat)] = flat
    return gathered

"""shared: a form of a graph has no copy of the graph's weights, but reads them out of the file in which they lie already."""

from __future__ import annotations

import mmap
from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import ModelProto

MIN_SHARED_BYTES = 65_536
"""Smaller weights are written again."""


def share_weights(model: ModelProto, source: Path, names: Collection[str]) -> None:
    """Let large weights be read out of `source`, by their place in that file (ONNX external data).

    Args:
        model: the form.
        source: the graph's file, in the folder where the form will lie.
        names: of weights that may be read there. A place need not be a multiple of a weight's width, so wider ones than int8
            must be those that the engine makes something else of while it loads; that it was seen to do from odd places.
    """
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for tensor in model.graph.initializer:
            length = len(tensor.raw_data)
            if tensor.name not in names or length < MIN_SHARED_BYTES:
                continue
            place = content.find(tensor.raw_data)
            if place >= 0:
                onnx.external_data_helper.set_external_data(tensor, source.name, place, length)
                tensor.ClearField("raw_data")

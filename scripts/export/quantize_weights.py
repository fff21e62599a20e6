"""compact: weights lie on disk as int8 or fp16, a quarter or half of the room; they become fp32 once, when the model loads."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from app.core.manifest import Graph
from scripts.export.graph_files import save

Storage = Literal["int8", "fp16"]
MIN_WEIGHTS = 65_536
"""Smaller matrices stay as they are: a head of a few labels decides everything and saves nothing."""
LIMIT = 127
SHRINKS = np.linspace(0.80, 1.0, 11)
"""Shares of a channel's largest weight that are tried as the end of its scale."""


def compact(source: Path, target: Path, graph: Graph, storage: Storage = "int8", min_weights: int = MIN_WEIGHTS) -> Graph:
    """Write a copy of the graph whose large matrices are small: int8 (matrix products per output channel, word embeddings
    per word, symmetric, each followed by a DequantizeLinear) or fp16 (each followed by a Cast). What the graph computes with
    stays fp32.

    Returns:
        The graph's manifest entry with its `storage`, or the given one where nothing was large enough.
    """
    model = onnx.load(source)
    axes = {name: axis for name, axis in _channel_axes(model).items() if _size(model, name) >= min_weights}
    nodes, weights = [], []
    for tensor in model.graph.initializer:
        if tensor.name not in axes:
            weights.append(tensor)
            continue
        if storage == "fp16":
            stored_as = f"{tensor.name}_fp16"
            weights.append(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), stored_as))
            nodes.append(helper.make_node("Cast", [stored_as], [tensor.name], f"{tensor.name}_cast", to=TensorProto.FLOAT))
            continue
        axis = axes[tensor.name]
        quantized, scale = quantize(numpy_helper.to_array(tensor), axis)
        stored = [f"{tensor.name}_int8", f"{tensor.name}_scale"]
        weights += [numpy_helper.from_array(quantized, stored[0]), numpy_helper.from_array(scale, stored[1])]
        nodes.append(helper.make_node("DequantizeLinear", stored, [tensor.name], f"{tensor.name}_dequantize", axis=axis))
    _replace(model, nodes + list(model.graph.node), weights)
    save(model, target)
    return graph.model_copy(update={"storage": storage if nodes else graph.storage, "file": target.name})


def quantize(weights: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 weights and the scale of each channel along `axis`: of several, the scale with the least squared error."""
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)  # (channels, weights)
    largest = np.abs(rows).max(axis=1)
    largest[largest == 0] = 1  # a channel of zeros: any scale keeps them
    best = np.full(len(rows), np.inf)
    scale = largest / LIMIT
    for shrink in SHRINKS:
        tried = largest * shrink / LIMIT
        error = np.square(_rounded(rows, tried) * tried[:, None] - rows).sum(axis=1)
        better = error < best
        scale[better], best[better] = tried[better], error[better]
    scale = scale.astype(np.float32)
    shape = [-1 if one == axis else 1 for one in range(weights.ndim)]
    quantized = np.clip(np.rint(weights / scale.reshape(shape)), -LIMIT, LIMIT).astype(np.int8)
    return quantized, scale


def _rounded(rows: np.ndarray, scale: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.clip(np.rint(rows / scale[:, None]), -LIMIT, LIMIT)
    return rounded


def _channel_axes(model: onnx.ModelProto) -> dict[str, int]:
    """Matrices to store as int8, with the axis of their channels; one that is used in two ways is left alone."""
    matrices = {one.name for one in model.graph.initializer if one.data_type == TensorProto.FLOAT and len(one.dims) == 2}
    uses: dict[str, set[int | None]] = defaultdict(set)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in matrices:
                uses[name].add(_channel_axis(node, position))
    agreed = {name: axes.pop() for name, axes in uses.items() if len(axes) == 1}
    return {name: axis for name, axis in agreed.items() if axis is not None}


def _channel_axis(node: NodeProto, position: int) -> int | None:
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type == "MatMul" and position == 1:
        return 1
    if node.op_type == "Gemm" and position == 1:
        return 0 if attributes.get("transB") else 1
    if node.op_type == "Gather" and position == 0 and node.input[1] == "input_ids" and not attributes.get("axis"):
        return 0
    return None


def _size(model: onnx.ModelProto, name: str) -> int:
    dims = next(one.dims for one in model.graph.initializer if one.name == name)
    return int(np.prod(dims))


def _replace(model: onnx.ModelProto, nodes: list[NodeProto], weights: list[TensorProto]) -> None:
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(weights)

"""The form of a decoder's step whose large products are of whole numbers, with a scale for each row of what is multiplied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers.onnx_model import OnnxModel

from scripts.export.optimize import MIN_WEIGHTS, files_of, quantize, save
from scripts.export.variants import EPSILON, MICROSOFT, share_weights

MAX_WEIGHT, MAX_INPUT, ZERO_POINT = 63, 127, 128
"""The largest number that weights become, that of each row, and what stands for 0 in it, since rows are unsigned. Processors
without VNNI add two products in 16 bits: 2 x 255 x 63 is the most that cannot overflow there."""
STEP = 1 / MAX_INPUT


def write_int8_rows(source: Path, target: Path, min_weights: int = MIN_WEIGHTS) -> bool:
    """Write the form of a step's graph that multiplies whole numbers, beside it. Attention and normalization stay in fp32, and
    so does the table of words, which is read out of `source`: the form is bound to that very file.

    A row is divided by its largest number and rounded to 8 bits; an output's weights have a scale of their own and 7 bits. The
    sums are exact, so that what a row becomes does not depend on how many others there are.

    Args:
        source: the step's graph, however its weights are stored.
        target: in the same folder.
        min_weights: of a matrix; smaller ones stay in fp32.

    Returns:
        Whether there is such a form: a graph of small matrices has none.
    """
    model = onnx.load(source)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    if not _round_products(model.graph, stored, min_weights):
        return False
    model.graph.initializer.extend(rounding_constants())
    OnnxModel(model).prune_graph()
    for part in files_of(source):
        share_weights(model, part, stored.keys())
    save(model, target)
    return True


def _round_products(graph: GraphProto, stored: Mapping[str, TensorProto], min_weights: int) -> bool:
    """Put whole numbers in the place of products with large matrices; whether there are any."""
    unpacking = {node.output[0]: node for node in graph.node if node.input and stored.keys() >= set(node.input)}
    rounded: set[str] = set()
    nodes: list[NodeProto] = []
    for node in graph.node:
        weights = _matrix(node.input[1], stored, unpacking) if node.op_type == "Gemm" else None
        if weights is None or weights.size < min_weights:
            nodes.append(node)
            continue
        if node.input[1] not in rounded:
            rounded.add(node.input[1])
            graph.initializer.extend(_in_whole_numbers(weights, node.input[1]))
        if node.input[0] not in rounded:  # a gate and what it lets through are products of the same rows
            rounded.add(node.input[0])
            nodes += rounding_of_rows(node.input[0])
        nodes += whole_product(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return bool(rounded)


def _matrix(name: str, stored: Mapping[str, TensorProto], unpacking: Mapping[str, NodeProto]) -> np.ndarray | None:
    """One that is stored in the graph, in fp32, (outputs, inputs); of anything else None."""
    node = unpacking.get(name)
    tensor = stored.get(name if node is None else node.input[0])
    if tensor is None or len(tensor.dims) != 2:
        return None
    matrix: np.ndarray = numpy_helper.to_array(tensor).astype(np.float32)
    if node is not None and node.op_type == "DequantizeLinear":
        matrix *= numpy_helper.to_array(stored[node.input[1]])[:, None]  # a scale for each output
    return matrix


def _in_whole_numbers(weights: np.ndarray, name: str) -> Iterator[TensorProto]:
    """int8, (inputs, outputs), and what they and their zeros stand for, (outputs)."""
    whole, scales = quantize(weights, 0, MAX_WEIGHT)
    yield numpy_helper.from_array(np.ascontiguousarray(whole.T), f"{name}_whole")
    yield numpy_helper.from_array(scales, f"{name}_steps")
    yield numpy_helper.from_array(np.zeros(len(scales), np.int8), f"{name}_zeros")


def rounding_of_rows(x: str) -> Iterator[NodeProto]:
    """fp32 (rows, features) to uint8 and the largest number of each row (rows, 1)."""
    yield helper.make_node("Abs", [x], [f"{x}_abs"])
    yield helper.make_node("ReduceMax", [f"{x}_abs", "rows_axis"], [f"{x}_max"], keepdims=1)
    yield helper.make_node("Max", [f"{x}_max", "rows_epsilon"], [f"{x}_largest"])
    yield helper.make_node("Div", [x, f"{x}_largest"], [f"{x}_divided"])
    yield helper.make_node("QuantizeLinear", [f"{x}_divided", "rows_step", "rows_zero"], [f"{x}_uint8"])


def whole_product(node: NodeProto) -> Iterator[NodeProto]:
    """In the place of a `Gemm`, behind `rounding_of_rows` of what it reads."""
    x, weights, *bias = node.input
    (y,) = node.output
    given = [f"{x}_uint8", f"{weights}_whole", "rows_step", f"{weights}_steps", "rows_zero", f"{weights}_zeros"]
    yield helper.make_node("MatMulIntegerToFloat", given, [f"{y}_product"], f"{node.name}_int8", domain=MICROSOFT)
    yield helper.make_node("Mul", [f"{y}_product", f"{x}_largest"], [f"{y}_unbiased" if bias else y])
    if bias:
        yield helper.make_node("Add", [f"{y}_unbiased", *bias], [y])


def rounding_constants() -> Iterator[TensorProto]:
    """What `rounding_of_rows` and `whole_product` read."""
    values = {"axis": np.array([-1]), "epsilon": np.float32(EPSILON), "step": np.float32(STEP), "zero": np.uint8(ZERO_POINT)}
    return (numpy_helper.from_array(np.asarray(value), f"rows_{name}") for name, value in values.items())

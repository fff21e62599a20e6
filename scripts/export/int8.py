"""integer: the form of a compact graph that multiplies int8 by int8, for processors that do so faster than fp32.

Weights are used as they lie on disk, one scale per output channel. What they are multiplied with is rounded to 8 bits while the
graph runs, each token by a scale of its own (dynamic quantization per token, as in ZeroQuant, Yao et al. 2022): a scale for the
whole tensor, which is what ONNX Runtime's own dynamic quantization takes, would let rows feel their neighbours. Attention,
normalization and the head stay fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from app.core.manifest import Graph
from scripts.export.external_data import share_weights

MICROSOFT = "com.microsoft"
LARGEST, ZERO, EPSILON = 127, 128, 1e-9
"""A token's largest value becomes 127; 0 is stored as 128, since the fast kernels take unsigned by signed."""


def write_integer(source: Path, target: Path, graph: Graph) -> bool:
    """Write the integer form of a compact graph beside it. Its large weights are not copied but read out of `source`, by
    their place in that file (ONNX external data): it adds a twentieth to a model's size, and is bound to that very file.

    Args:
        source: the compact graph, stored as int8.
        target: in the same folder.
        graph: the manifest entry of `source`.

    Returns:
        Whether there is one: a graph that holds no int8 matrix product has none.
    """
    if graph.storage != "int8":
        return False
    model = onnx.load(source)
    dequantized = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    matrices = {one.name: tuple(one.dims) for one in model.graph.initializer if len(one.dims) == 2}
    products = [node for node in model.graph.node if _weights_of(node, dequantized) in matrices]
    if not products:
        return False
    _replace_products(model, products, dequantized, matrices)
    share_weights(model, source, {one.name for one in model.graph.initializer if one.data_type == TensorProto.INT8})
    onnx.save(model, target)
    return True


def _weights_of(node: NodeProto, dequantized: dict[str, NodeProto]) -> str:
    """Name of the int8 matrix that a node multiplies with, or nothing."""
    if node.op_type != "MatMul" or node.input[1] not in dequantized:
        return ""
    return str(dequantized[node.input[1]].input[0])


def _replace_products(
    model: ModelProto, products: list[NodeProto], dequantized: dict[str, NodeProto], matrices: dict[str, tuple[int, ...]]
) -> None:
    replaced = {node.output[0] for node in products}
    unused = {node.input[1] for node in products}
    rounded: set[str] = set()
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] in unused:
            continue
        if node.output[0] not in replaced:
            nodes.append(node)
            continue
        given, weights = node.input[0], dequantized[node.input[1]]
        if given not in rounded:  # query, key and value are products of the same tensor
            nodes += _rounding(given)
            rounded.add(given)
        nodes += _product(node, weights, matrices[weights.input[0]][1])
    widths = {matrices[_weights_of(node, dequantized)][1] for node in products}
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(_constants(widths))
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _rounding(given: str) -> Iterator[NodeProto]:
    """fp32 (lines, tokens, features) to uint8 and the scale of each token (lines, tokens, 1)."""
    yield helper.make_node("Abs", [given], [f"{given}_abs"])
    yield helper.make_node("ReduceMax", [f"{given}_abs"], [f"{given}_max"], axes=[-1], keepdims=1)
    yield helper.make_node("Max", [f"{given}_max", "int8_epsilon"], [f"{given}_largest"])
    yield helper.make_node("Div", ["int8_largest", f"{given}_largest"], [f"{given}_factor"])
    yield helper.make_node("Mul", [given, f"{given}_factor"], [f"{given}_scaled"])
    yield helper.make_node("QuantizeLinear", [f"{given}_scaled", "int8_one", "int8_zero"], [f"{given}_uint8"])
    yield helper.make_node("Mul", [f"{given}_largest", "int8_step"], [f"{given}_scale"])


def _product(node: NodeProto, weights: NodeProto, width: int) -> Iterator[NodeProto]:
    given, made = node.input[0], node.output[0]
    matrix, scale = weights.input[:2]
    yield helper.make_node(
        "MatMulIntegerToFloat",
        [f"{given}_uint8", matrix, "int8_one", scale, "int8_zero", f"int8_zeros_{width}"],
        [f"{made}_unscaled"],
        f"{node.name}_int8",
        domain=MICROSOFT,
    )
    yield helper.make_node("Mul", [f"{made}_unscaled", f"{given}_scale"], [made])


def _constants(widths: set[int]) -> Iterator[TensorProto]:
    yield numpy_helper.from_array(np.asarray(1, np.float32), "int8_one")
    yield numpy_helper.from_array(np.asarray(ZERO, np.uint8), "int8_zero")
    yield numpy_helper.from_array(np.asarray(LARGEST, np.float32), "int8_largest")
    yield numpy_helper.from_array(np.asarray(1 / LARGEST, np.float32), "int8_step")
    yield numpy_helper.from_array(np.asarray(EPSILON, np.float32), "int8_epsilon")
    for width in sorted(widths):  # the fast kernel wants a zero point per channel where it has a scale per channel
        yield numpy_helper.from_array(np.zeros(width, np.int8), f"int8_zeros_{width}")

"""Arithmetic of fewer bits, shown on a processor that has none: copies of a graph whose every result is rounded in the open.

ONNX Runtime's CPU provider knows few operators in fp16, and none in bf16. Chains of others it computes in fp32 from end to end,
so that a graph which overflows on a GPU is finite there, and errors are half as large. Here each operator is computed in fp32,
as an engine adds up within one, and what comes out is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from scripts.export.optimize import save

MOVING = frozenset({"Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that make no new numbers."""
LOWER_HALF = 16
"""Bits of a fp32 number that bf16 leaves out."""


def write_simulated_fp16(source: Path, target: Path) -> None:
    """Write a graph that computes each operator of an fp16 graph in fp32 and rounds what comes out, with weights of its own.

    Within an operator it adds up in fp32, as a GPU does by default.

    Args:
        source: the fp16 variant; the weights that it shares must lie beside it.
        target: anywhere.
    """
    model = onnx.load(source)
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    in_fp16 = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    _round_results(model, in_fp16, TensorProto.FLOAT16)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    save(model, target)


def write_simulated_bf16(source: Path, target: Path) -> None:
    """Write a graph that rounds weights and the result of every operator to bf16, its outputs too, with weights of its own.

    An engine rounds less often: it fuses operators, and OpenVINO leaves those behind the last product in fp32.

    Args:
        source: the graph itself, however its weights are stored.
        target: anywhere.
    """
    model = onnx.load(source)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.value_info, *inferred.output]
    _round_results(
        model, {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}, TensorProto.BFLOAT16
    )
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(rounded_to_bf16(numpy_helper.to_array(tensor)), tensor.name))
    save(model, target)


def rounded_to_bf16(numbers: np.ndarray) -> np.ndarray:
    """The nearest numbers that bf16 has, of two the even one, as fp32."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + ((bits >> LOWER_HALF) & np.uint32(1))
    halved: np.ndarray = (nearest & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(numbers), np.float32(np.nan), halved).reshape(numbers.shape)


def _round_results(model: ModelProto, names: set[str], kind: int) -> None:
    """Compute in fp32 what has these names, and round it to a kind of number."""
    nodes = [rounded for node in model.graph.node for rounded in _rounded(node, names, kind)]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)


def _rounded(node: NodeProto, names: set[str], kind: int) -> Iterator[NodeProto]:
    if node.op_type in MOVING or not names.intersection(node.output):
        yield node
        return
    exact = NodeProto()
    exact.CopyFrom(node)
    for index, name in enumerate(node.output):
        exact.output[index] = f"{name}_exact" if name in names else name
    if node.op_type == "Cast":
        exact.attribute[0].i = TensorProto.FLOAT
    yield exact
    for name in names.intersection(node.output):
        yield helper.make_node("Cast", [f"{name}_exact"], [f"{name}_rounded"], to=kind)
        yield helper.make_node("Cast", [f"{name}_rounded"], [name], to=TensorProto.FLOAT)

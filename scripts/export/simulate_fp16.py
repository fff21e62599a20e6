"""rounded: what a graph in fp16 answers, shown on a processor that cannot compute in fp16.

ONNX Runtime's CPU provider knows few operators in fp16. Chains of others it computes in fp32 from end to end, so that a graph
which overflows on a GPU is finite there, and errors are half as large. Here every result is rounded to fp16 in the open.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from scripts.export.graph_files import save

MOVING = frozenset({"Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that make no new numbers."""


def write_rounded(source: Path, target: Path) -> None:
    """Write a graph that computes each operator of an fp16 graph in fp32 and rounds what comes out, with weights of its own.

    Within an operator it adds up in fp32, as a GPU does by default.

    Args:
        source: the fp16 form; the weights that it shares must lie beside it.
        target: anywhere.
    """
    model = onnx.load(source)
    typed = onnx.shape_inference.infer_shapes(model).graph
    halves = {one.name for one in typed.value_info if one.type.tensor_type.elem_type == TensorProto.FLOAT16}
    nodes = [made for node in model.graph.node for made in _rounded(node, halves)]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    for one in model.graph.initializer:
        if one.data_type == TensorProto.FLOAT16:
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one).astype(np.float32), one.name))
    save(model, target)


def _rounded(node: NodeProto, halves: set[str]) -> Iterator[NodeProto]:
    if node.op_type in MOVING or not halves.intersection(node.output):
        yield node
        return
    exact = NodeProto()
    exact.CopyFrom(node)
    for index, name in enumerate(node.output):
        exact.output[index] = f"{name}_exact" if name in halves else name
    if node.op_type == "Cast":
        exact.attribute[0].i = TensorProto.FLOAT
    yield exact
    for name in halves.intersection(node.output):
        yield helper.make_node("Cast", [f"{name}_exact"], [f"{name}_fp16"], to=TensorProto.FLOAT16)
        yield helper.make_node("Cast", [f"{name}_fp16"], [name], to=TensorProto.FLOAT)

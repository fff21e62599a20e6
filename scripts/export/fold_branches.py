"""branches: an If that goes the same way for every shape becomes what it goes to, since OpenVINO compiles few of them.

transformers' DeBERTa asks in each layer whether queries are as many as keys, which in an encoder they always are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.external_data_helper import uses_external_data

from app.core.types import Ints

SHAPES = ((1, 1), (1, 9), (2, 16), (3, 7), (1, 40))
"""Rows and tokens of the inputs that conditions are asked with."""
ERRORS_ONLY = 3


def write_without_branches(source: Path, target: Path) -> Path:
    """Write a copy of a graph in which each If whose condition follows from shapes alone, and is the same for all of them, is
    the branch that it takes.

    Returns:
        The copy, or the source where it has no such If, or its weights lie beside it, as those of graphs over 2 GB do.
    """
    model = onnx.load(source, load_external_data=False)
    if not any(node.op_type == "If" for node in model.graph.node) or any(map(uses_external_data, model.graph.initializer)):
        return source
    while settled := _settled(model, target):
        nodes: list[NodeProto] = []
        for node in model.graph.node:
            nodes += _taken(model.graph, node, settled[node.input[0]]) if _is_branch(node, settled) else [node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    onnx.save(model, target)
    return target


def _is_branch(node: NodeProto, settled: Mapping[str, bool]) -> bool:
    return node.op_type == "If" and node.input[0] in settled


def _settled(model: ModelProto, file: Path) -> dict[str, bool]:
    """Conditions to what they always are."""
    producers = {name: node for node in model.graph.node for name in node.output}
    conditions = {node.input[0] for node in model.graph.node if node.op_type == "If"}
    asked = sorted(name for name in conditions if _follows_from_shapes(name, producers, model.graph))
    if not asked:
        return {}
    answers = [_ask(model, asked, shape, file) for shape in SHAPES]
    return {name: values[0] for name, values in zip(asked, zip(*answers, strict=True), strict=True) if len(set(values)) == 1}


def _follows_from_shapes(name: str, producers: Mapping[str, NodeProto], graph: GraphProto) -> bool:
    """Whether no value of an input reaches it but through its shape."""
    inputs = {one.name for one in graph.input}
    seen, open_names = set[str](), [name]
    while open_names:
        current = open_names.pop()
        if current in inputs:
            return False
        node = producers.get(current)
        if current in seen or node is None or node.op_type in ("Shape", "Size"):
            continue
        if any(attribute.type == AttributeProto.GRAPH for attribute in node.attribute):
            return False
        seen.add(current)
        open_names += node.input
    return True


def _ask(model: ModelProto, conditions: Sequence[str], shape: tuple[int, int], file: Path) -> list[bool]:
    asking = ModelProto()
    asking.CopyFrom(model)
    del asking.graph.output[:]
    asking.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.BOOL, None) for name in conditions)
    onnx.save(asking, file)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    tensors: dict[str, Ints] = {
        one.name: np.ones(shape if len(one.shape) == 2 else shape[:1], np.int64) for one in session.get_inputs()
    }
    return [bool(value) for value in session.run(list(conditions), tensors)]


def _taken(graph: GraphProto, node: NodeProto, condition: bool) -> Iterator[NodeProto]:
    """The nodes of the branch, under names that nothing else in the graph has."""
    wanted = "then_branch" if condition else "else_branch"
    branch = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
    prefix = f"{node.name or node.output[0]}/"
    local = {name for inner in branch.node for name in inner.output} | {one.name for one in branch.initializer}
    for one in branch.initializer:
        kept = graph.initializer.add()
        kept.CopyFrom(one)
        kept.name = prefix + one.name
    for inner in branch.node:
        moved = NodeProto()
        moved.CopyFrom(inner)
        moved.name = prefix + inner.name
        _rename(moved, {name: prefix + name for name in local})
        yield moved
    for given, returned in zip(branch.output, node.output, strict=True):
        source = prefix + given.name if given.name in local else given.name
        yield helper.make_node("Identity", [source], [returned], f"{prefix}{returned}")


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    """Also what its own branches take from outside of them."""
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            own = {name for inner in attribute.g.node for name in inner.output}
            outside = {old: new for old, new in names.items() if old not in own}
            for inner in attribute.g.node:
                _rename(inner, outside)
            for output in attribute.g.output:
                output.name = outside.get(output.name, output.name)

"""An ONNX file read and written without ONNX's package, which a service does not have: weights, and tables kept as stored."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FLOAT, FLOAT16, INT_ATTRIBUTE = 1, 10, 2
"""ONNX's numbers: element types, and that of an attribute that is a whole number."""


PACKAGE = "hooper.onnx_file"
_FIELD = descriptor_pb2.FieldDescriptorProto
MESSAGES: dict[str, list[tuple[str, int, int, bool, str]]] = {
    "Entry": [("key", 1, _FIELD.TYPE_STRING, False, ""), ("value", 2, _FIELD.TYPE_STRING, False, "")],
    "Tensor": [
        ("dims", 1, _FIELD.TYPE_INT64, True, ""),
        ("data_type", 2, _FIELD.TYPE_INT32, False, ""),
        ("name", 8, _FIELD.TYPE_STRING, False, ""),
        ("raw_data", 9, _FIELD.TYPE_BYTES, False, ""),
        ("external_data", 13, _FIELD.TYPE_MESSAGE, True, "Entry"),
        ("data_location", 14, _FIELD.TYPE_INT32, False, ""),
    ],
    "Attribute": [
        ("name", 1, _FIELD.TYPE_STRING, False, ""),
        ("i", 3, _FIELD.TYPE_INT64, False, ""),
        ("type", 20, _FIELD.TYPE_INT32, False, ""),
    ],
    "Node": [
        ("input", 1, _FIELD.TYPE_STRING, True, ""),
        ("output", 2, _FIELD.TYPE_STRING, True, ""),
        ("name", 3, _FIELD.TYPE_STRING, False, ""),
        ("op_type", 4, _FIELD.TYPE_STRING, False, ""),
        ("attribute", 5, _FIELD.TYPE_MESSAGE, True, "Attribute"),
    ],
    "Value": [("name", 1, _FIELD.TYPE_STRING, False, "")],
    "Graph": [
        ("node", 1, _FIELD.TYPE_MESSAGE, True, "Node"),
        ("initializer", 5, _FIELD.TYPE_MESSAGE, True, "Tensor"),
        ("output", 12, _FIELD.TYPE_MESSAGE, True, "Value"),
    ],
    "Model": [("graph", 7, _FIELD.TYPE_MESSAGE, False, "Graph")],
}
"""Field by field: name, number, type, whether it is repeated, and the message that it holds.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""


def write_with_stored_tables(source: Path, target: Path) -> bool:
    """Write a graph whose embedding tables stay as they are stored: rows are looked up in int8 or fp16, and only they become
    fp32. Every number is the same as before, bit for bit. A MiniLM's table takes 12 MB in place of 47 as long as it is loaded.

    Args:
        source: the graph.
        target: anywhere.

    Returns:
        Whether there was such a table, and all weights in the graph's own file; else nothing is written.
    """
    model = model_type()()
    model.ParseFromString(source.read_bytes())
    graph = model.graph
    if any(tensor.data_location for tensor in graph.initializer):
        return False
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    unpacking = {
        node.output[0]: node
        for node in graph.node
        if node.op_type in ("DequantizeLinear", "Cast") and len(node.output) == 1 and uses[node.output[0]] == 1
    }
    nodes, unpacked = list[Any](), set[str]()
    for node in graph.node:
        before = unpacking.get(node.input[0]) if node.op_type == "Gather" and _axis(node, 0) == 0 else None
        looked_up = _looked_up(node, before, tensors, uses) if before is not None else []
        if before is not None and looked_up:
            unpacked.add(before.output[0])
        nodes += looked_up or [node]
    if not unpacked:
        return False
    kept = [_copy(node) for node in nodes if not unpacked.intersection(node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    target.write_bytes(model.SerializeToString())
    return True


def _looked_up(gather: Any, unpack: Any, tensors: dict[str, Any], uses: Counter[str]) -> list[Any]:
    """Nodes that look rows up before they unpack them; none where this table is unpacked in another way."""
    (table, *scales), rows, output = unpack.input, gather.input[1], gather.output[0]
    if table not in tensors:
        return []
    if unpack.op_type == "Cast":
        if tensors[table].data_type != FLOAT16:
            return []
        return [_node("Gather", [table, rows], f"{output}_stored"), _cast(f"{output}_stored", output)]
    scale = tensors.get(scales[0]) if len(scales) == 1 else None
    num_rows = tensors[table].dims[0] if tensors[table].dims else 0
    if scale is None or list(scale.dims) != [num_rows] or uses[scale.name] != 1 or _axis(unpack, 1) != 0:
        return []
    scale.dims.append(1)  # so that what is looked up stands beside each row
    return [
        _node("Gather", [table, rows], f"{output}_stored"),
        _cast(f"{output}_stored", f"{output}_whole"),
        _node("Gather", [scale.name, rows], f"{output}_scale"),
        _node("Mul", [f"{output}_whole", f"{output}_scale"], output),
    ]


def _axis(node: Any, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), default)


def _copy(node: Any) -> Any:
    copied = type(node)()
    copied.CopyFrom(node)
    return copied


def _node(kind: str, inputs: list[str], output: str) -> Any:
    node = message_type("Node")()
    node.op_type, node.name = kind, output
    node.input.extend(inputs)
    node.output.append(output)
    return node


def _cast(before: str, output: str) -> Any:
    node = _node("Cast", [before], output)
    node.attribute.add(name="to", i=FLOAT, type=INT_ATTRIBUTE)
    return node


def model_type() -> type[Any]:
    """The part of ONNX's `ModelProto` that is needed here; parsers keep what they do not know."""
    return message_type("Model")


@cache
def message_type(name: str) -> type[Any]:
    """`Model`, `Graph`, `Node`, `Tensor`, …"""
    found: type[Any] = message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))
    return found


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    described = descriptor_pb2.FileDescriptorProto(name=f"{PACKAGE}.proto", package=PACKAGE, syntax="proto2")
    for name, fields in MESSAGES.items():
        message = described.message_type.add(name=name)
        for label, number, kind, repeated, type_name in fields:
            message.field.add(
                name=label,
                number=number,
                type=kind,
                label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL,
                type_name=f".{PACKAGE}.{type_name}" if type_name else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(described)
    return pool

"""A graph becomes smaller: constants, branches and duplicates gone, weights as int8 or fp16, in standard operators."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from app.core.errors import SetupError
from app.core.manifest import Graph
from app.core.types import Ints

# --- files: protobuf ends at 2 GB, and what is larger keeps its weights in a second file beside the first

MODEL, INT8_MODEL, INT7_MODEL, FP16_MODEL = "model.onnx", "model.int8.onnx", "model.int7.onnx", "model.fp16.onnx"
"""Names of the files of a version; the others read their weights out of the first."""
MAX_PROTO_BYTES = 2_000_000_000
"""Of weights in one file: protobuf's limit is 2^31 - 1, for everything in it."""
DATA_SUFFIX = ".data"
MIN_DATA_BYTES = 1024
"""Smaller tensors stay in the graph, where shapes are read from."""


def weights_file(file: Path) -> Path | None:
    """The file beside a graph that holds its weights, if it has one."""
    data = file.with_name(file.name + DATA_SUFFIX)
    return data if data.is_file() else None


def files_of(file: Path) -> list[Path]:
    """A graph's file, and that of its weights where there is one."""
    data = weights_file(file)
    return [file] if data is None else [file, data]


def num_bytes(file: Path) -> int:
    """Of a graph with its weights."""
    return sum(part.stat().st_size for part in files_of(file))


def save(model: ModelProto, file: Path) -> None:
    """Check a graph and write it, in two files where it would not go into one. Its weights may be gone from memory then."""
    delete(file)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MAX_PROTO_BYTES:
        onnx.save(
            model,
            file,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=file.name + DATA_SUFFIX,
            size_threshold=MIN_DATA_BYTES,
        )
    else:
        onnx.save(model, file)
    onnx.checker.check_model(str(file))


def move(source: Path, target: Path) -> Path:
    """Rename a graph, with its weights.

    Returns:
        The target.
    """
    data = weights_file(source)
    if data is None:
        return source.replace(target)
    model = onnx.load(source, load_external_data=False)
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            next(entry for entry in tensor.external_data if entry.key == "location").value = target.name + DATA_SUFFIX
    onnx.save(model, target)
    data.replace(target.with_name(target.name + DATA_SUFFIX))
    source.unlink()
    return target


def delete(file: Path) -> None:
    """Remove a graph with its weights; what is not there is no error. ONNX would append to the weights of an older one."""
    for part in files_of(file):
        part.unlink(missing_ok=True)


# --- branches: an If that goes the same way for every shape becomes what it goes to, since OpenVINO compiles few of them.
# transformers' DeBERTa asks in each layer whether queries are as many as keys, which in an encoder they always are.

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
    while constant := _constant_conditions(model, target):
        nodes: list[NodeProto] = []
        for node in model.graph.node:
            is_branch = node.op_type == "If" and node.input[0] in constant
            nodes += _inlined(model.graph, node, constant[node.input[0]]) if is_branch else [node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    onnx.save(model, target)
    return target


def _constant_conditions(model: ModelProto, file: Path) -> dict[str, bool]:
    """Conditions to what they always are."""
    producers = {name: node for node in model.graph.node for name in node.output}
    conditions = {node.input[0] for node in model.graph.node if node.op_type == "If"}
    names = sorted(name for name in conditions if _follows_from_shapes(name, producers, model.graph))
    if not names:
        return {}
    runs = [_run_conditions(model, names, shape, file) for shape in SHAPES]
    return {name: values[0] for name, values in zip(names, zip(*runs, strict=True), strict=True) if len(set(values)) == 1}


def _follows_from_shapes(name: str, producers: Mapping[str, NodeProto], graph: GraphProto) -> bool:
    """Whether no value of an input reaches it but through its shape."""
    inputs = {value.name for value in graph.input}
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


def _run_conditions(model: ModelProto, conditions: Sequence[str], shape: tuple[int, int], file: Path) -> list[bool]:
    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.BOOL, None) for name in conditions)
    onnx.save(probe, file)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    tensors: dict[str, Ints] = {  # the others say where a row's vector begins or which tokens are read: the first one
        tensor.name: np.ones(shape, np.int64) if len(tensor.shape) == 2 else np.zeros(shape[:1], np.int64)
        for tensor in session.get_inputs()
    }
    return [bool(value) for value in session.run(list(conditions), tensors)]


def _inlined(graph: GraphProto, node: NodeProto, condition: bool) -> Iterator[NodeProto]:
    """The nodes of the branch, under names that nothing else in the graph has."""
    name = "then_branch" if condition else "else_branch"
    branch = next(attribute.g for attribute in node.attribute if attribute.name == name)
    prefix = f"{node.name or node.output[0]}/"
    local = {name for inner in branch.node for name in inner.output} | {tensor.name for tensor in branch.initializer}
    for tensor in branch.initializer:
        copy = graph.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = prefix + tensor.name
    for inner in branch.node:
        moved = NodeProto()
        moved.CopyFrom(inner)
        moved.name = prefix + inner.name
        _rename(moved, {name: prefix + name for name in local})
        yield moved
    for output, name in zip(branch.output, node.output, strict=True):
        source = prefix + output.name if output.name in local else output.name
        yield helper.make_node("Identity", [source], [name], f"{prefix}{name}")


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


# --- ONNX Runtime's basic optimizations

STANDARD = frozenset({"", "ai.onnx"})


def optimize(source: Path, target: Path) -> None:
    """Write a cleaned copy of the graph.

    ONNX Runtime's basic level keeps the meaning and the operators of a graph on every provider; the levels above put in
    kernels of its own that only its CPU and CUDA providers know.

    Raises:
        SetupError: the result would need operators outside the ONNX standard.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    weights = target.with_name(f"{target.name}.unfiltered")
    if weights_file_of_exporter(source):
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights.name)
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        straight = write_without_branches(source, Path(folder) / source.name)
        onnxruntime.InferenceSession(straight, options, providers=["CPUExecutionProvider"])
    model = onnx.load(target)  # with its weights
    weights.unlink(missing_ok=True)
    used = {node.domain for node in model.graph.node}
    if not used <= STANDARD:
        raise SetupError(f"{source.name} needs operators outside the ONNX standard: {', '.join(sorted(used - STANDARD))}")
    # the runtime lists all domains it knows; other engines may refuse those they do not
    opsets = [opset for opset in model.opset_import if opset.domain in STANDARD]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    save(model, target)


def weights_file_of_exporter(source: Path) -> bool:
    """Whether the exporter wrote the weights beside the graph."""
    return any(map(uses_external_data, onnx.load(source, load_external_data=False).graph.initializer))


# --- weights as int8 or fp16

Storage = Literal["int8", "fp16"]
MIN_WEIGHTS = 65_536
"""Smaller matrices stay as they are: a head of a few labels decides everything and saves nothing."""
MAX_INT8 = 127
ELEMENTWISE = frozenset({"Cast", "Clip", "Identity", "Min", "Where"})
"""Operators behind which token ids are still token ids."""
SHRINKS = np.linspace(0.80, 1.0, 11)
"""Shares of a channel's largest weight that are tried as the end of its scale."""


def quantize_weights(
    source: Path, target: Path, graph: Graph, storage: Storage = "int8", min_weights: int = MIN_WEIGHTS
) -> Graph:
    """Write a copy of the graph whose large matrices are small: int8 (matrix products per output channel, word embeddings
    per word, symmetric, each followed by a DequantizeLinear) or fp16 (each followed by a Cast). What the graph computes with
    stays fp32: they are converted once, when the model loads.

    Returns:
        The graph's manifest entry with its `storage`, or `graph` where nothing was large enough.
    """
    model = onnx.load(source)
    axes = _channel_axes(model)
    nodes, tensors = [], []
    for tensor in model.graph.initializer:
        name = tensor.name
        if name not in axes or np.prod(tensor.dims) < min_weights:
            tensors.append(tensor)
        elif storage == "fp16":
            tensors.append(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_fp16"))
            nodes.append(helper.make_node("Cast", [f"{name}_fp16"], [name], f"{name}_cast", to=TensorProto.FLOAT))
        else:
            stored = [f"{name}_int8", f"{name}_scale"]
            arrays = quantize(numpy_helper.to_array(tensor), axes[name])
            tensors += [numpy_helper.from_array(array, part) for array, part in zip(arrays, stored, strict=True)]
            nodes.append(helper.make_node("DequantizeLinear", stored, [name], f"{name}_dequantize", axis=axes[name]))
    others = list(model.graph.node)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes + others)
    model.graph.initializer.extend(tensors)
    save(model, target)
    return graph.model_copy(update={"storage": storage if nodes else graph.storage, "file": target.name})


def quantize(weights: np.ndarray, axis: int, largest_int: int = MAX_INT8) -> tuple[np.ndarray, np.ndarray]:
    """int8 weights, of `largest_int` at most, and the scale of each channel along `axis`: of several, the one with the least
    squared error."""
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)  # (channels, weights)
    largest = np.abs(rows).max(axis=1)
    largest[largest == 0] = 1  # a channel of zeros: any scale keeps them
    smallest_error = np.full(len(rows), np.inf)
    scale = largest / largest_int
    for shrink in SHRINKS:
        candidate = largest * shrink / largest_int
        rounded = np.clip(np.rint(rows / candidate[:, None]), -largest_int, largest_int) * candidate[:, None]
        error = np.square(rounded - rows).sum(axis=1)
        better = error < smallest_error
        scale[better], smallest_error[better] = candidate[better], error[better]
    scale = scale.astype(np.float32)
    shape = [-1 if dim == axis else 1 for dim in range(weights.ndim)]
    return np.clip(np.rint(weights / scale.reshape(shape)), -largest_int, largest_int).astype(np.int8), scale


def _channel_axes(model: ModelProto) -> dict[str, int]:
    """Matrices to store as int8, with the axis of their channels; one that is used in two ways is left alone."""
    tensors = model.graph.initializer
    matrices = {tensor.name for tensor in tensors if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2}
    token_ids = _token_ids(model.graph)
    uses: dict[str, set[int | None]] = defaultdict(set)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in matrices:
                uses[name].add(_channel_axis(node, position, token_ids))
    return {name: axis for name, axes in uses.items() if len(axes) == 1 and (axis := next(iter(axes))) is not None}


def _token_ids(graph: GraphProto) -> set[str]:
    """`input_ids`, and what is made of them element by element, as where what a vocabulary lacks becomes what it has."""
    names = {"input_ids"}
    for node in graph.node:  # each behind those that it reads
        if node.op_type in ELEMENTWISE and not names.isdisjoint(node.input):
            names.update(node.output)
    return names


def _channel_axis(node: NodeProto, position: int, token_ids: Collection[str]) -> int | None:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "MatMul" and position == 1:
        return 1
    if node.op_type == "Gemm" and position == 1:
        return 0 if attributes.get("transB") else 1
    if node.op_type == "Gather" and position == 0 and node.input[1] in token_ids and not attributes.get("axis"):
        return 0
    return None

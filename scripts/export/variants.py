"""Variants of a graph for one precision, int8 or fp16: small files that share its weights, how they are made and measured."""

from __future__ import annotations

import mmap
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from app.core.errors import EngineFailed, InvalidArtefact
from app.core.manifest import Graph
from app.core.types import Precision
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider, has_int8
from scripts.export.optimize import FP16_MODEL, INT8_MODEL, save, weights_file
from scripts.export.rounding import write_simulated_fp16
from scripts.export.verify import FP16, INT8, Comparison, Reference, check_other_neighbours

FP16_ROWS = 1_000
MIN_SHARED_BYTES = 65_536
"""Smaller weights are written again."""
OPEN_GRAPH = (
    "import sys, onnxruntime; options = onnxruntime.SessionOptions(); options.log_severity_level = 4;"
    "onnxruntime.InferenceSession(sys.argv[1], options, providers=['CPUExecutionProvider'])"
)


def share_weights(variant: ModelProto, source: Path, names: Collection[str]) -> None:
    """Let large weights be read out of `source`, by their place in that file (ONNX external data).

    Args:
        variant: what reads them.
        source: the graph's file, in the folder where the variant will lie.
        names: of weights that may be read there. An offset need not be a multiple of a weight's width, so wider ones than int8
            must be those that the engine converts while it loads; that it was seen to do from odd offsets.
    """
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for tensor in variant.graph.initializer:
            length = len(tensor.raw_data)
            if tensor.name not in names or length < MIN_SHARED_BYTES:
                continue
            offset = content.find(tensor.raw_data)
            if offset >= 0:
                onnx.external_data_helper.set_external_data(tensor, source.name, offset, length)
                tensor.ClearField("raw_data")


# --- fp16, for GPUs
#
# Weights stay as they lie on disk. Each becomes fp32, as when the graph itself is loaded, and then fp16, which an engine does
# once, while it loads. Softmax and normalization are fp16 too: GPUs add up in fp32 within an operator, and keeping these two in
# fp32 changed nothing that could be measured (docs/adr/0031).

UNPACKED_BY: Mapping[int, str] = {TensorProto.INT8: "DequantizeLinear", TensorProto.FLOAT16: "Cast"}
"""How weights are stored, to the operator that makes fp32 of them."""
MAX_FP16 = 30_000.0
"""Constants end here. Masks are often the least fp32 number, which is -inf in fp16; so is fp16's own least number as soon as a
score is added to it, and a softmax over nothing but -inf gives NaN."""


def write_fp16(source: Path, target: Path) -> None:
    """Write the fp16 variant of a graph beside it. Inputs and outputs stay as they are, logits fp32. Its large weights are not
    copied but read out of `source`: it adds a hundredth to a model's size, and is bound to that very file.

    The conversion is ONNX Runtime's own. It is shown the graph without its weights, which would become fp16 copies: they are
    inputs of the graph meanwhile.

    Args:
        source: the graph, stored as int8, fp16 or fp32.
        target: in the same folder.
    """
    model = onnx.load(source)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    unpacking = [node for node in model.graph.node if _unpacks(node, initializers)]
    shapes = {node.output[0]: initializers[node.input[0]].dims for node in unpacking}
    shapes |= {name: tensor.dims for name, tensor in initializers.items() if _is_large(tensor)}
    packed = {name for node in unpacking for name in node.input}
    weights = [tensor for name, tensor in initializers.items() if name in packed or name in shapes]
    skeleton = _without_weights(model, shapes, weights)
    variant = convert_float_to_float16(skeleton, keep_io_types=True, max_finite_val=MAX_FP16)
    inputs = [value for value in variant.graph.input if value.name not in shapes]
    del variant.graph.input[:], variant.graph.value_info[:]
    variant.graph.input.extend(inputs)
    variant.graph.node.extend(unpacking)
    variant.graph.initializer.extend(weights)
    OnnxModel(variant).topological_sort()
    share_weights(variant, source, {tensor.name for tensor in weights})
    onnx.save(variant, target)


def _unpacks(node: NodeProto, initializers: Mapping[str, TensorProto]) -> bool:
    """Whether a node does nothing but make fp32 weights out of those on disk."""
    if node.op_type not in UNPACKED_BY.values() or not initializers.keys() >= set(node.input):
        return False
    return UNPACKED_BY.get(initializers[node.input[0]].data_type) == node.op_type


def _is_large(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) >= MIN_SHARED_BYTES


def _without_weights(model: ModelProto, shapes: Mapping[str, Sequence[int]], weights: Sequence[TensorProto]) -> ModelProto:
    """The graph with its weights as inputs."""
    skeleton = ModelProto()
    skeleton.CopyFrom(model)
    names = {tensor.name for tensor in weights}
    del skeleton.graph.node[:], skeleton.graph.initializer[:]
    skeleton.graph.node.extend(node for node in model.graph.node if node.output[0] not in shapes)
    skeleton.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name not in names)
    skeleton.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in shapes.items())
    return skeleton


# --- int8 by int8, for processors that multiply so faster than in fp32
#
# Weights are used as they lie on disk, one scale per output channel. What they are multiplied with is rounded to 8 bits while
# the graph runs, each token by a scale of its own (dynamic quantization per token, as in ZeroQuant, Yao et al. 2022): a scale
# for the whole tensor, which is what ONNX Runtime's own dynamic quantization takes, would let rows feel their neighbours.
# Attention, normalization and the head stay fp32.

MICROSOFT = "com.microsoft"
MAX_INT8, ZERO_POINT, EPSILON = 127, 128, 1e-9
"""A token's largest value becomes 127; 0 is stored as 128, since the fast kernels take unsigned by signed."""


def write_int8(source: Path, target: Path, graph: Graph) -> bool:
    """Write the int8 variant of a graph beside it. Its large weights are not copied but read out of `source`: it adds a
    twentieth to a model's size, and is bound to that very file.

    Args:
        source: the graph, its weights stored as int8.
        target: in the same folder.
        graph: the manifest entry of `source`.

    Returns:
        Whether there is such a variant: a graph that holds no int8 matrix product has none.
    """
    if graph.storage != "int8":
        return False
    model = onnx.load(source)
    dequantized = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) == 2}
    products = [node for node in model.graph.node if _weights_of(node, dequantized) in shapes]
    if not products:
        return False
    _replace_products(model, products, dequantized, shapes)
    share_weights(model, source, {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8})
    onnx.save(model, target)
    return True


def _weights_of(node: NodeProto, dequantized: Mapping[str, NodeProto]) -> str:
    """Name of the int8 matrix that a node multiplies with, or nothing."""
    if node.op_type != "MatMul" or node.input[1] not in dequantized:
        return ""
    return str(dequantized[node.input[1]].input[0])


def _replace_products(
    model: ModelProto,
    products: Sequence[NodeProto],
    dequantized: Mapping[str, NodeProto],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    outputs = {node.output[0] for node in products}
    unused = {node.input[1] for node in products}
    quantized: set[str] = set()
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] in unused:
            continue
        if node.output[0] not in outputs:
            nodes.append(node)
            continue
        if node.input[0] not in quantized:  # query, key and value are products of the same tensor
            nodes += _quantization(node.input[0])
            quantized.add(node.input[0])
        weights = dequantized[node.input[1]]
        nodes += _integer_product(node, weights, shapes[weights.input[0]][1])
    widths = {shapes[_weights_of(node, dequantized)][1] for node in products}
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(_constants(widths))
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _quantization(x: str) -> Iterator[NodeProto]:
    """fp32 (lines, tokens, features) to uint8 and the scale of each token (lines, tokens, 1)."""
    yield helper.make_node("Abs", [x], [f"{x}_abs"])
    yield helper.make_node("ReduceMax", [f"{x}_abs"], [f"{x}_max"], axes=[-1], keepdims=1)
    yield helper.make_node("Max", [f"{x}_max", "int8_epsilon"], [f"{x}_largest"])
    yield helper.make_node("Div", ["int8_largest", f"{x}_largest"], [f"{x}_factor"])
    yield helper.make_node("Mul", [x, f"{x}_factor"], [f"{x}_scaled"])
    yield helper.make_node("QuantizeLinear", [f"{x}_scaled", "int8_one", "int8_zero"], [f"{x}_uint8"])
    yield helper.make_node("Mul", [f"{x}_largest", "int8_step"], [f"{x}_scale"])


def _integer_product(node: NodeProto, weights: NodeProto, width: int) -> Iterator[NodeProto]:
    x, y = node.input[0], node.output[0]
    matrix, scale = weights.input[:2]
    inputs = [f"{x}_uint8", matrix, "int8_one", scale, "int8_zero", f"int8_zeros_{width}"]
    yield helper.make_node("MatMulIntegerToFloat", inputs, [f"{y}_unscaled"], f"{node.name}_int8", domain=MICROSOFT)
    yield helper.make_node("Mul", [f"{y}_unscaled", f"{x}_scale"], [y])


def _constants(widths: set[int]) -> Iterator[TensorProto]:
    yield numpy_helper.from_array(np.asarray(1, np.float32), "int8_one")
    yield numpy_helper.from_array(np.asarray(ZERO_POINT, np.uint8), "int8_zero")
    yield numpy_helper.from_array(np.asarray(MAX_INT8, np.float32), "int8_largest")
    yield numpy_helper.from_array(np.asarray(1 / MAX_INT8, np.float32), "int8_step")
    yield numpy_helper.from_array(np.asarray(EPSILON, np.float32), "int8_epsilon")
    for width in sorted(widths):  # the fast kernel wants a zero point per channel where it has a scale per channel
        yield numpy_helper.from_array(np.zeros(width, np.int8), f"int8_zeros_{width}")


EXACT_ZERO = "exact_zero"


def write_exact_int8(source: Path, target: Path) -> None:
    """Write a graph that multiplies the integers of an int8 graph in fp32, with weights of its own: for processors whose own
    products of int8 overflow. All of them are whole numbers that fp32 holds, so that only the last bits of sums differ.

    Args:
        source: the int8 variant; the weights that it shares must lie beside it.
        target: anywhere.
    """
    model = onnx.load(source)
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(ZERO_POINT, np.float32), EXACT_ZERO))
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "MatMulIntegerToFloat":
            nodes.append(node)
            continue
        x, matrix, _, scale = node.input[:4]
        y = node.output[0]
        weights = numpy_helper.to_array(arrays[matrix]).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, f"{y}_weights"))
        # no DequantizeLinear: ONNX Runtime would make the integer product of it again
        nodes.append(helper.make_node("Cast", [x], [f"{y}_cast"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Sub", [f"{y}_cast", EXACT_ZERO], [f"{y}_rows"]))
        nodes.append(helper.make_node("MatMul", [f"{y}_rows", f"{y}_weights"], [f"{y}_whole"]))
        nodes.append(helper.make_node("Mul", [f"{y}_whole", scale], [y]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    save(model, target)


# --- both, with how each is measured


@dataclass(frozen=True, slots=True)
class Variant:
    """Another way to compute a graph, and how it is written and measured."""

    precision: Precision
    file: str
    storages: frozenset[str]
    """Those of graphs that can have it."""
    write: Callable[[Path, Path, Graph], bool]
    """From the graph's file, the variant's and the graph's manifest entry to whether there is one."""
    measure: Callable[[Reference, Path, Graph], Comparison]
    max_rows: int = 0
    """Held-out examples that it is compared on, drawn where there are more; 0: all of them."""


def _write_fp16(source: Path, target: Path, _: Graph) -> bool:
    if weights_file(source) is not None:  # too large to be held in memory as one message
        return False
    write_fp16(source, target)
    return True


def _measure_int8(reference: Reference, file: Path, graph: Graph) -> Comparison:
    """Parity of the int8 variant; where this processor does not multiply int8 exactly, by a copy that does so in fp32.

    Raises:
        ParityFailed: rows feel their neighbours.
    """
    in_int8 = replace(choose_provider("cpu"), precision="int8")
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        session = EncoderEngine(file, graph, in_int8)
        if not has_int8():
            write_exact_int8(file, Path(folder) / file.name)
            session = EncoderEngine(Path(folder) / file.name, graph, in_int8)
        predictions = reference.predict(session, "verifying int8")
        check_other_neighbours(session, reference.rows)
    return reference.compare(predictions, INT8)


def _measure_fp16(reference: Reference, file: Path, graph: Graph) -> Comparison:
    """Parity of the fp16 variant, as far as a processor can tell: by a copy that rounds after each operator.

    No GPU is used. Its kernels add up in another order, and fuse operators, which rounds less often. What is shown is that the
    variant can be loaded, that no number leaves fp16 on the way, and what rounding costs.

    Raises:
        ParityFailed: rows feel their neighbours.
    """
    in_fp16 = replace(choose_provider("cpu"), precision="fp16")
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        simulated = Path(folder) / file.name
        if ends_its_process(file):
            return reference.failed_comparison()
        try:
            EncoderEngine(file, graph, in_fp16)
            write_simulated_fp16(file, simulated)
            session = EncoderEngine(simulated, graph, in_fp16)
            predictions = reference.predict(session, "verifying fp16")
        except (EngineFailed, InvalidArtefact):  # it overflows, or is no graph: it must not be chosen
            return reference.failed_comparison()
        check_other_neighbours(session, reference.rows)
    return reference.compare(predictions, FP16)


def ends_its_process(file: Path) -> bool:
    """Whether a process ends that opens a graph, as ONNX Runtime's own processor kernels for fp16 may do to it: tried in one of
    its own. What opening it raises, it raises wherever it is opened next."""
    return subprocess.run([sys.executable, "-c", OPEN_GRAPH, str(file)], capture_output=True, check=False).returncode < 0


INT8_VARIANT = Variant("int8", INT8_MODEL, frozenset({"int8"}), write_int8, _measure_int8)
FP16_VARIANT = Variant("fp16", FP16_MODEL, frozenset({"int8", "fp16", "fp32"}), _write_fp16, _measure_fp16, max_rows=FP16_ROWS)
VARIANTS: Mapping[Precision, Variant] = {variant.precision: variant for variant in (INT8_VARIANT, FP16_VARIANT)}

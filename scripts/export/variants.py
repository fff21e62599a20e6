"""Variants of a graph for one precision, int8, int7 or fp16: small files that share its weights, how they are made and
measured."""

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
from app.runtime.providers import INTEGER_STORAGES, choose_provider, has_int8
from scripts.export.optimize import FP16_MODEL, INT7_MODEL, INT8_MODEL, quantize, save, weights_file
from scripts.export.rounding import write_simulated_fp16
from scripts.export.verify import FP16, INT7, INT8, Comparison, Gate, Reference, check_other_neighbours

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
# Weights have one scale per output channel. What they are multiplied with is rounded to 8 bits while the graph runs, each token
# by a scale of its own (dynamic quantization per token, as in ZeroQuant, Yao et al. 2022): a scale for the whole tensor, which
# is what ONNX Runtime's own dynamic quantization takes, would let rows feel their neighbours. Attention, normalization and the
# head stay fp32.
#
# `int8` uses weights as they lie on disk, of 8 bits. `int7` rounds them to 7 while it is loaded: processors without VNNI add
# two products in 16 bits, which those of 8 bits overflow and those of 7 do not (2 x 255 x 63 < 2^15).

MICROSOFT = "com.microsoft"
MAX_INT8, MAX_INT7, ZERO_POINT, EPSILON = 127, 63, 128, 1e-9
"""A token's largest value becomes 127, a channel's largest weight 127 or 63; 0 of a token is stored as 128, since the fast
kernels take unsigned by signed."""


@dataclass(frozen=True, slots=True)
class IntegerMatrix:
    """A matrix of whole numbers in the graph, and what makes it there."""

    name: str
    """Of a tensor int8 (features, channels)."""
    scale: str
    """Of a tensor fp32 (channels)."""
    nodes: Sequence[NodeProto] = ()
    """What computes it from the stored weights, which the engine does once, while it loads."""
    tensors: Sequence[TensorProto] = ()
    """What these read besides."""


ToIntegers = Callable[[NodeProto, Mapping[str, TensorProto]], IntegerMatrix]
"""From the node that makes a matrix fp32, and all that is stored by its name."""


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
    return graph.storage == "int8" and _write_integer_products(source, target, _as_stored)


def write_int7(source: Path, target: Path, graph: Graph) -> bool:
    """As `write_int8`, with weights that become 7 bits wide while the variant is loaded; they may be stored as fp16, too."""
    return graph.storage in INTEGER_STORAGES["int7"] and _write_integer_products(source, target, _in_seven_bits)


def _write_integer_products(source: Path, target: Path, to_integers: ToIntegers) -> bool:
    model = onnx.load(source)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    unpacking = {node.output[0]: node for node in model.graph.node if _unpacks(node, stored)}
    widths = {name: tuple(stored[node.input[0]].dims) for name, node in unpacking.items()}
    products = {
        node.output[0] for node in model.graph.node if node.op_type == "MatMul" and len(widths.get(node.input[1], ())) == 2
    }
    if not products:
        return False
    _replace_products(model, products, unpacking, to_integers)
    share_weights(model, source, {tensor.name for tensor in stored.values() if tensor.data_type in UNPACKED_BY})
    onnx.save(model, target)
    return True


def _as_stored(unpacking: NodeProto, _: Mapping[str, TensorProto]) -> IntegerMatrix:
    return IntegerMatrix(*unpacking.input[:2])


def _in_seven_bits(unpacking: NodeProto, stored: Mapping[str, TensorProto]) -> IntegerMatrix:
    (name,) = unpacking.output
    matrix = numpy_helper.to_array(stored[unpacking.input[0]]).astype(np.float32)
    if unpacking.op_type == "DequantizeLinear":
        matrix *= numpy_helper.to_array(stored[unpacking.input[1]])
    _, scale = quantize(matrix, 1, MAX_INT7)
    nodes = [
        unpacking,
        helper.make_node("Div", [name, f"{name}_scale7"], [f"{name}_scaled"]),
        helper.make_node("Round", [f"{name}_scaled"], [f"{name}_rounded"]),
        helper.make_node("Clip", [f"{name}_rounded", "int7_least", "int7_largest"], [f"{name}_clipped"]),
        # no QuantizeLinear: behind a DequantizeLinear, ONNX Runtime might take both away
        helper.make_node("Cast", [f"{name}_clipped"], [f"{name}_int7"], to=TensorProto.INT8),
    ]
    return IntegerMatrix(f"{name}_int7", f"{name}_scale7", nodes, [numpy_helper.from_array(scale, f"{name}_scale7")])


def _replace_products(
    model: ModelProto, products: Collection[str], unpacking: Mapping[str, NodeProto], to_integers: ToIntegers
) -> None:
    """Put integer products in the place of those that have these outputs."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    unused = {node.input[1] for node in graph.node if node.output[0] in products}
    matrices: dict[str, IntegerMatrix] = {}
    quantized: set[str] = set()
    widths: set[int] = set()
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.output[0] in unused:
            continue
        if node.output[0] not in products:
            nodes.append(node)
            continue
        x, weights = node.input
        if weights not in matrices:  # some architectures have the same ones in every layer
            matrices[weights] = to_integers(unpacking[weights], stored)
            nodes += matrices[weights].nodes
        features, channels = stored[unpacking[weights].input[0]].dims
        if x not in quantized:  # query, key and value are products of the same tensor
            nodes += _quantization(x, features)
            quantized.add(x)
        nodes += _integer_product(node, matrices[weights], channels)
        widths |= {features, channels}
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensor for matrix in matrices.values() for tensor in matrix.tensors)
    graph.initializer.extend(_constants(widths))
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _quantization(x: str, width: int) -> Iterator[NodeProto]:
    """fp32 (lines, tokens, features) to uint8 and the scale of each token (lines, tokens, 1).

    Each token is an element of the axis that `QuantizeLinear` has scales for: one operator divides, rounds and stores.
    """
    yield helper.make_node("ReduceMax", [x], [f"{x}_max"], axes=[-1], keepdims=1)
    yield helper.make_node("ReduceMin", [x], [f"{x}_min"], axes=[-1], keepdims=1)
    yield helper.make_node("Neg", [f"{x}_min"], [f"{x}_depth"])
    yield helper.make_node("Max", [f"{x}_max", f"{x}_depth", "int8_epsilon"], [f"{x}_largest"])
    yield helper.make_node("Mul", [f"{x}_largest", "int8_step"], [f"{x}_scale"])
    yield helper.make_node("Reshape", [f"{x}_scale", "int8_list"], [f"{x}_scales"])
    yield helper.make_node("Shape", [f"{x}_scales"], [f"{x}_count"])
    yield helper.make_node("Expand", ["int8_zero", f"{x}_count"], [f"{x}_zeros"])
    yield helper.make_node("Reshape", [x, f"int8_table_{width}"], [f"{x}_table"])
    yield helper.make_node("QuantizeLinear", [f"{x}_table", f"{x}_scales", f"{x}_zeros"], [f"{x}_table_uint8"], axis=0)
    yield helper.make_node("Shape", [x], [f"{x}_shape"])
    yield helper.make_node("Reshape", [f"{x}_table_uint8", f"{x}_shape"], [f"{x}_uint8"])


def _integer_product(node: NodeProto, weights: IntegerMatrix, width: int) -> Iterator[NodeProto]:
    x, y = node.input[0], node.output[0]
    inputs = [f"{x}_uint8", weights.name, "int8_one", weights.scale, "int8_zero", f"int8_zeros_{width}"]
    yield helper.make_node("MatMulIntegerToFloat", inputs, [f"{y}_unscaled"], f"{node.name}_int8", domain=MICROSOFT)
    yield helper.make_node("Mul", [f"{y}_unscaled", f"{x}_scale"], [y])


def _constants(widths: Collection[int]) -> Iterator[TensorProto]:
    values = {
        "int8_one": np.float32(1), "int8_zero": np.uint8(ZERO_POINT), "int8_list": np.array([-1]),
        "int8_step": np.float32(1 / MAX_INT8), "int8_epsilon": np.float32(EPSILON),
        "int7_least": np.float32(-MAX_INT7), "int7_largest": np.float32(MAX_INT7),
    }  # fmt: skip
    for width in sorted(widths):
        values[f"int8_table_{width}"] = np.array([-1, width])
        # the fast kernel wants a zero point per channel where it has a scale per channel
        values[f"int8_zeros_{width}"] = np.zeros(width, np.int8)
    return (numpy_helper.from_array(np.asarray(value), name) for name, value in values.items())


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


# --- all of them, with how each is measured


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
    if has_int8():
        return _measure_integers("int8", INT8, reference, file, graph)
    EncoderEngine(file, graph, replace(choose_provider("cpu"), precision="int8"))  # it can be loaded
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        exact = Path(folder) / file.name
        write_exact_int8(file, exact)
        return _measure_integers("int8", INT8, reference, exact, graph)


def _measure_int7(reference: Reference, file: Path, graph: Graph) -> Comparison:
    """Parity of the int7 variant, whose sums are exact on every processor.

    Raises:
        ParityFailed: rows feel their neighbours.
    """
    return _measure_integers("int7", INT7, reference, file, graph)


def _measure_integers(precision: Precision, gate: Gate, reference: Reference, file: Path, graph: Graph) -> Comparison:
    session = EncoderEngine(file, graph, replace(choose_provider("cpu"), precision=precision))
    predictions = reference.predict(session, f"verifying {precision}")
    check_other_neighbours(session, reference.rows)
    return reference.compare(predictions, gate)


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


INT8_VARIANT = Variant("int8", INT8_MODEL, INTEGER_STORAGES["int8"], write_int8, _measure_int8)
INT7_VARIANT = Variant("int7", INT7_MODEL, INTEGER_STORAGES["int7"], write_int7, _measure_int7)
FP16_VARIANT = Variant("fp16", FP16_MODEL, frozenset({"int8", "fp16", "fp32"}), _write_fp16, _measure_fp16, max_rows=FP16_ROWS)
VARIANTS: Mapping[Precision, Variant] = {variant.precision: variant for variant in (INT8_VARIANT, INT7_VARIANT, FP16_VARIANT)}

"""half: the form of a graph that computes in fp16, for GPUs.

Weights stay as they lie on disk. Each becomes fp32, as when the graph itself is loaded, and then fp16, which an engine does
once, while it loads. Softmax and normalization are fp16 too: GPUs add up in fp32 within an operator, and keeping these two in
fp32 changed nothing that could be measured (docs/adr/0031).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from scripts.export import external_data as shared

UNPACKED_BY: Mapping[int, str] = {TensorProto.INT8: "DequantizeLinear", TensorProto.FLOAT16: "Cast"}
"""How weights are stored, to the operator that makes fp32 of them."""
LARGEST = 30_000.0
"""Constants end here. Masks are often the least fp32 number, which is -inf in fp16; so is fp16's own least number as soon as a
score is added to it, and a softmax over nothing but -inf gives NaN."""


def write_half(source: Path, target: Path) -> None:
    """Write the fp16 form of a graph beside it. Inputs and outputs stay as they are, logits fp32. Its large weights are not
    copied but read out of `source`: it adds a hundredth to a model's size, and is bound to that very file.

    The conversion is ONNX Runtime's own. It is shown the graph without its weights, which would become fp16 copies: they are
    inputs of the graph meanwhile.

    Args:
        source: the graph, stored as int8, fp16 or fp32.
        target: in the same folder.
    """
    model = onnx.load(source)
    stored = {one.name: one for one in model.graph.initializer}
    unpacking = [node for node in model.graph.node if _unpacks(node, stored)]
    weights = {node.output[0]: stored[node.input[0]].dims for node in unpacking}
    weights |= {one.name: one.dims for one in stored.values() if _is_large(one)}
    packed = dict.fromkeys(name for node in unpacking for name in node.input)
    kept = [one for one in stored.values() if one.name in packed or one.name in weights]
    half = convert_float_to_float16(_skeleton(model, weights, kept), keep_io_types=True, max_finite_val=LARGEST)
    _put_back(half, weights, kept, unpacking)
    shared.share_weights(half, source, {one.name for one in kept})
    onnx.save(half, target)


def _unpacks(node: NodeProto, stored: Mapping[str, TensorProto]) -> bool:
    """Whether a node does nothing but make fp32 weights out of those on disk."""
    if node.op_type not in UNPACKED_BY.values() or not stored.keys() >= set(node.input):
        return False
    return UNPACKED_BY.get(stored[node.input[0]].data_type) == node.op_type


def _is_large(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) >= shared.MIN_SHARED_BYTES


def _skeleton(model: ModelProto, weights: Mapping[str, Sequence[int]], kept: Sequence[TensorProto]) -> ModelProto:
    """The graph with its weights as inputs."""
    made = ModelProto()
    made.CopyFrom(model)
    names = {one.name for one in kept}
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(node for node in model.graph.node if node.output[0] not in weights)
    made.graph.initializer.extend(one for one in model.graph.initializer if one.name not in names)
    made.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in weights.items())
    return made


def _put_back(
    half: ModelProto, weights: Mapping[str, Sequence[int]], kept: Sequence[TensorProto], unpacking: Sequence[NodeProto]
) -> None:
    inputs = [one for one in half.graph.input if one.name not in weights]
    del half.graph.input[:], half.graph.value_info[:]
    half.graph.input.extend(inputs)
    half.graph.node.extend(unpacking)
    half.graph.initializer.extend(kept)
    OnnxModel(half).topological_sort()

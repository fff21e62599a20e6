"""A decoder's step whose large products have int4 weights, but for the one that gives the logits, which has int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from scripts.export.optimize import MIN_WEIGHTS
from scripts.export.seq2seq.int8 import HEADS, INT8_LEVEL, int8_product, write_products
from scripts.export.variants import MICROSOFT

INT4_DECODER = "decoder.int4.onnx"
BLOCK = 32
"""Weights of an output that share a scale."""
LARGEST, ZERO = 15, 8


def write_int4_step(source: Path, target: Path, min_weights: int | None = None) -> bool:
    """Write the form with int4 weights beside a step's graph; see `write_products`."""
    return write_products(source, target, MIN_WEIGHTS if min_weights is None else min_weights, _int4_product)


def _int4_product(node: NodeProto, weights: np.ndarray, scales: np.ndarray | None) -> tuple[list[TensorProto], NodeProto]:
    if HEADS.intersection(node.output):
        return int8_product(node, weights, scales)
    x, name, *bias = node.input
    tensors = _in_blocks(weights, name)
    given = [x, *(tensor.name for tensor in tensors), *(["", "", *bias] if bias else [])]
    outputs, inputs = weights.shape
    shape = {"N": outputs, "K": inputs, "bits": 4, "block_size": BLOCK, "accuracy_level": INT8_LEVEL}
    return tensors, helper.make_node("MatMulNBits", given, node.output, node.name, domain=MICROSOFT, **shape)


def _in_blocks(weights: np.ndarray, name: str) -> list[TensorProto]:
    """Whole numbers from 0 to 15 around 8, two in a byte, (outputs, blocks, bytes), and scales, (outputs, blocks): the number
    that is farthest from zero becomes -8. A block that is too long ends in zeros."""
    outputs, inputs = weights.shape
    blocks = np.zeros((outputs, -(-inputs // BLOCK), BLOCK), np.float32)
    blocks.reshape(outputs, -1)[:, :inputs] = weights
    place = np.abs(blocks).argmax(axis=-1)[..., None]
    scales = np.take_along_axis(blocks, place, axis=-1) / np.float32(-ZERO)
    scales[scales == 0] = 1
    whole = np.clip(np.rint(blocks / scales) + ZERO, 0, LARGEST).astype(np.uint8)
    return [
        numpy_helper.from_array(whole[..., 0::2] | (whole[..., 1::2] << 4), f"{name}_int4_blocks"),
        numpy_helper.from_array(np.ascontiguousarray(scales[..., 0]), f"{name}_int4_scales"),
    ]

"""Products in blocks: how far int4 weights are from their own, and what the operator makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from scripts.export.seq2seq.int4 import INT4_DECODER, write_int4_step
from scripts.export.seq2seq.int8 import write_int8_step

OUTPUTS, INPUTS = 6, 80
"""Two blocks and a half."""


def write_step(path: Path, output: str = "hidden") -> tuple[np.ndarray, np.ndarray]:
    """A graph of one product with a bias: its weights and its bias."""
    rng = np.random.default_rng(0)
    weights, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((OUTPUTS, INPUTS), OUTPUTS))
    weights[0] = np.abs(weights[0]) + 3  # all on one side of zero
    weights[1, :32] = 0
    node = helper.make_node("Gemm", ["x", "weights", "bias"], [output], "product", transB=1)
    graph = helper.make_graph(
        [node],
        "step",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", INPUTS])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["B", OUTPUTS])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return weights, bias


@pytest.mark.parametrize(("write", "bits"), [(write_int8_step, 8), (write_int4_step, 4)], ids=["int8", "int4"])
def test_a_product_is_that_of_weights_within_half_a_step_of_their_own(
    write: Callable[[Path, Path, int], bool], bits: int, tmp_path: Path
) -> None:
    weights, bias = write_step(tmp_path / "decoder.onnx")
    file = tmp_path / "form.onnx"
    assert write(tmp_path / "decoder.onnx", file, 1)
    assert next(node.op_type for node in onnx.load(file).graph.node) == "MatMulNBits"
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    # one number at a time: what comes out is a row of the weights that are stored
    (stored,) = session.run(None, {"x": np.eye(INPUTS, dtype=np.float32)})
    largest = np.abs(weights).max()
    assert np.abs(stored - bias - weights.T).max() <= largest / (2 ** (bits - 1)) * 0.55 + 0.01
    assert np.abs(stored - bias - weights.T).max() > 0


def test_the_product_that_gives_the_logits_keeps_int8(tmp_path: Path) -> None:
    write_step(tmp_path / "decoder.onnx", "logits")
    assert write_int4_step(tmp_path / "decoder.onnx", tmp_path / INT4_DECODER, 1)
    (node,) = onnx.load(tmp_path / INT4_DECODER).graph.node
    assert next(attribute.i for attribute in node.attribute if attribute.name == "bits") == 8


def test_small_matrices_stay_as_they_are(tmp_path: Path) -> None:
    write_step(tmp_path / "decoder.onnx")
    assert not write_int4_step(tmp_path / "decoder.onnx", tmp_path / INT4_DECODER)
    assert not (tmp_path / INT4_DECODER).exists()

"""bf16 on a processor that has none: every result is one that bf16 has, and the nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from scripts.export.rounding import rounded_to_bf16, write_simulated_bf16


def test_numbers_are_rounded_as_torch_rounds_them() -> None:
    numbers = np.concatenate([
        np.random.default_rng(0).standard_normal(1000).astype(np.float32) * np.float32(1000),
        np.array([0.0, -0.0, 1.00390625, 1.01171875, 3.3e38, -3.4028e38, np.inf, -np.inf, np.nan, 1e-40], np.float32),
    ])  # fmt: skip
    expected = torch.from_numpy(numbers).to(torch.bfloat16).to(torch.float32).numpy()
    np.testing.assert_array_equal(rounded_to_bf16(numbers), expected)
    assert rounded_to_bf16(np.float32(1.00390625)).shape == ()


@pytest.mark.parametrize("is_packed", [False, True])
def test_each_operator_and_the_weights_are_rounded(tmp_path: Path, is_packed: bool) -> None:
    generator = np.random.default_rng(1)
    weights, x = generator.standard_normal((8, 4)).astype(np.float32), generator.standard_normal((3, 8)).astype(np.float32)
    stored = weights.astype(np.float16) if is_packed else weights
    nodes = [helper.make_node("Cast", ["packed"], ["w"], to=TensorProto.FLOAT)] if is_packed else []
    nodes += [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Mul", ["product", "third"], ["y"])]
    third = np.asarray(1 / 3, np.float32)
    graph = helper.make_graph(
        nodes,
        "a product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(stored, "packed" if is_packed else "w"), numpy_helper.from_array(third, "third")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), tmp_path / "model.onnx")
    write_simulated_bf16(tmp_path / "model.onnx", tmp_path / "rounded.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "rounded.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(["y"], {"x": x})
    product = rounded_to_bf16(x @ rounded_to_bf16(stored.astype(np.float32)))
    np.testing.assert_array_equal(y, rounded_to_bf16(product * rounded_to_bf16(third)))

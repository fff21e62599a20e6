"""What shows the errors of fp16 on a processor: every result is rounded, and what a GPU would lose is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from scripts.export.simulate_fp16 import write_rounded


def halves(folder: Path, *steps: float) -> Path:
    """A graph that multiplies by one number after the other in fp16."""
    nodes = [helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16)]
    for number, _ in enumerate(steps):
        nodes.append(helper.make_node("Mul", ["a" if number == 0 else f"y{number}", f"by{number}"], [f"y{number + 1}"]))
    nodes.append(helper.make_node("Cast", [f"y{len(steps)}"], ["y"], to=TensorProto.FLOAT))
    values = [numpy_helper.from_array(np.float16(step), f"by{number}") for number, step in enumerate(steps)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    made = helper.make_graph(nodes, "halves", inputs, outputs, values)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "half.onnx")
    return folder / "half.onnx"


def computed(file: Path, x: float) -> float:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return float(session.run(None, {"x": np.asarray([x], np.float32)})[0][0])


@pytest.mark.parametrize(("x", "steps"), [(1.2345, (1000.0, 0.001)), (0.1, (3.0, 7.0, 0.1)), (2.0, (1e-4, 1e-4, 1e4))])
def test_every_result_is_rounded(x: float, steps: tuple[float, ...], tmp_path: Path) -> None:
    expected = np.float16(x)
    for step in steps:
        expected *= np.float16(step)
    write_rounded(halves(tmp_path, *steps), tmp_path / "rounded.onnx")
    assert computed(tmp_path / "rounded.onnx", x) == float(expected)


def test_what_leaves_fp16_is_seen_which_the_cpu_provider_hides(tmp_path: Path) -> None:
    half = halves(tmp_path, 1000.0, 0.001)
    write_rounded(half, tmp_path / "rounded.onnx")
    assert np.isfinite(computed(half, 1000.0))
    assert np.isinf(computed(tmp_path / "rounded.onnx", 1000.0))

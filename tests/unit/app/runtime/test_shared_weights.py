"""Weights that are the same byte for byte are held once, by whatever sessions read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.core.manifest import Graph, Output
from app.runtime import shared_weights
from app.runtime.onnx_session import open_session
from app.runtime.providers import Provider
from app.runtime.shared_weights import MIN_BYTES, SharedWeights, SharingSession

SHARING = Provider("cpu", "fp32", "for a test", shares_weights=True)
SIZE = 128
"""A matrix of so many rows and columns has more than MIN_BYTES."""


def write_graph(file: Path, weights: Sequence[np.ndarray], prefix: str = "w", external: bool = False) -> Graph:
    """A graph that multiplies its input by each of some matrices in turn."""
    names = [f"{prefix}{number}" for number in range(len(weights))]
    values = ["logits" if number == len(names) - 1 else f"h{number}" for number in range(len(names))]
    nodes = [
        helper.make_node("MatMul", [["input_ids", *values][number], name], [values[number]])
        for number, name in enumerate(names)
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("input_ids", TensorProto.FLOAT, ["rows", SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", weights[-1].shape[1]])],
        [numpy_helper.from_array(weight, name) for name, weight in zip(names, weights, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, file, save_as_external_data=external, location=f"{file.name}.data", size_threshold=0)
    outputs = (Output(name="logits", axis="row"),)
    return Graph(file=file.name, layout="padded", inputs=("input_ids",), outputs=outputs, storage="fp32")


def matrix(seed: int, columns: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((SIZE, columns)).astype(np.float32)


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> SharedWeights:
    weights = SharedWeights()
    monkeypatch.setattr(shared_weights, "SHARED_WEIGHTS", weights)
    return weights


@pytest.mark.parametrize("external", [False, True])
def test_two_heads_on_one_body_hold_it_once_whatever_it_is_called(tmp_path: Path, held: SharedWeights, external: bool) -> None:
    body, heads = matrix(0), [matrix(1), matrix(2)]
    inputs = {"input_ids": matrix(3)[:4]}
    sessions = []
    for number, head in enumerate(heads):
        file = tmp_path / f"{number}.onnx"
        graph = write_graph(file, [body, head], prefix=f"p{number}_", external=external and number == 1)
        sessions.append(open_session(file, graph, SHARING, 1))
    assert held.num_bytes == 3 * body.nbytes
    for session, head in zip(sessions, heads, strict=True):
        (logits,) = session.run(["logits"], inputs, None)  # type: ignore[arg-type]
        np.testing.assert_allclose(logits, inputs["input_ids"] @ body @ head, rtol=1e-4, atol=1e-3)
    assert isinstance(sessions[0], SharingSession)
    assert isinstance(sessions[1], SharingSession)
    assert sessions[0].weights["p0_0"] is sessions[1].weights["p1_0"]


def test_a_weight_is_gone_with_the_last_session_that_reads_it(tmp_path: Path, held: SharedWeights) -> None:
    graph = write_graph(tmp_path / "a.onnx", [matrix(0)])
    first, second = (open_session(tmp_path / "a.onnx", graph, SHARING, 1) for _ in range(2))
    assert held.num_bytes == matrix(0).nbytes
    del first
    assert held.num_bytes == matrix(0).nbytes
    (logits,) = second.run(["logits"], {"input_ids": matrix(1)[:2]}, None)  # type: ignore[dict-item]
    np.testing.assert_allclose(logits, matrix(1)[:2] @ matrix(0), rtol=1e-4, atol=1e-3)
    del second
    assert held.num_bytes == 0


def test_the_same_numbers_in_another_shape_or_type_are_another_weight(tmp_path: Path) -> None:
    weights = SharedWeights()
    flat = np.zeros((SIZE, SIZE), np.float32)
    held = []
    for number, array in enumerate((flat, flat.reshape(-1, SIZE // 2), flat.view(np.int8), flat)):
        initializer = numpy_helper.from_array(array, "w")
        graph = helper.make_graph([], "none", [], [], [initializer])
        onnx.save(helper.make_model(graph), tmp_path / f"{number}.onnx")
        held.append(weights.of(tmp_path / f"{number}.onnx")["w"])
    assert held[0] is held[3]
    assert len({id(weight) for weight in held}) == 3


def test_small_tensors_and_those_of_other_types_stay_each_sessions_own(tmp_path: Path) -> None:
    initializers = [
        numpy_helper.from_array(np.zeros(MIN_BYTES // 4 - 1, np.float32), "small"),
        numpy_helper.from_array(np.zeros(MIN_BYTES, np.int64), "numbers"),
        helper.make_tensor("listed", TensorProto.FLOAT, [MIN_BYTES], [0.0] * MIN_BYTES),
        numpy_helper.from_array(np.zeros(MIN_BYTES // 4, np.float32), "large"),
    ]
    onnx.save(helper.make_model(helper.make_graph([], "none", [], [], initializers)), tmp_path / "a.onnx")
    assert list(SharedWeights().of(tmp_path / "a.onnx")) == ["large"]


def test_sessions_share_nothing_unless_they_are_told_to(tmp_path: Path, held: SharedWeights) -> None:
    graph = write_graph(tmp_path / "a.onnx", [matrix(0)])
    session = open_session(tmp_path / "a.onnx", graph, Provider("cpu", "fp32", "for a test"), 1)
    assert not isinstance(session, SharingSession)
    assert held.num_bytes == 0

"""CudaGraphSession on a CPU: everything that CUDA graphs need but the capture itself, which a CPU does not do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from app.core.errors import OutOfMemory, ProviderUnavailable
from app.core.manifest import Graph
from app.core.types import Ints, Row
from app.runtime import onnx_session as engine_module
from app.runtime.cuda_graphs import GRAPH_ID, MAX_CAPTURED, CudaGraphSession, try_capture
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.layout import plan, to_tensors
from app.runtime.onnx_session import OrtSession, open_session
from app.runtime.providers import Provider
from tests.support.tiny_model import logits_of, packed_graph, padded_graph, row

CUDA = Provider("cuda", "fp32", "for a test").capturing()
SHORT, OTHER_SHORT = [row(2, 4, 6, 3), row(2, 11, 3)], [row(2, 12, 3), row(2, 5, 3)]
LONG = [row(2, *[6] * 20, 3)]
OUTPUTS = ["logits"]


class Recorded:
    """A session that keeps, of each run, how it was run and under which graph id; `failing` runs over buffers fail."""

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.runs: list[tuple[str, str]] = []
        self.failing: Exception | None = None

    def run(self, outputs: Sequence[str], tensors: Mapping[str, Ints], options: Any) -> Sequence[np.ndarray]:
        self.runs.append(("plain", options.get_run_config_entry(GRAPH_ID)))
        answered: Sequence[np.ndarray] = self.session.run(outputs, tensors, options)
        return answered

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.runs.append(("bound", options.get_run_config_entry(GRAPH_ID)))
        if self.failing:
            raise self.failing
        self.session.run_with_iobinding(binding, options)

    def io_binding(self) -> Any:
        return self.session.io_binding()

    def get_inputs(self) -> Any:
        return self.session.get_inputs()

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return packed_graph(tmp_path / "model.onnx")


@pytest.fixture
def session(tmp_path: Path, graph: Graph) -> Recorded:
    return Recorded(tmp_path / "model.onnx")


@pytest.fixture
def engine(session: Recorded) -> CudaGraphSession:
    return CudaGraphSession(session, "cpu")


def tensors_of(rows: list[Row], graph: Graph) -> Mapping[str, Ints]:
    return to_tensors(rows, plan([row.num_tokens for row in rows], graph.layout, True), graph, True)


def logits(engine: CudaGraphSession, rows: list[Row], graph: Graph) -> np.ndarray:
    (answered,) = engine.run(OUTPUTS, tensors_of(rows, graph), onnxruntime.RunOptions())
    return answered[: len(rows)]


def right(rows: list[Row]) -> np.ndarray:
    return np.stack([logits_of(row) for row in rows])


def test_shapes_that_come_again_run_over_buffers_of_their_own(
    engine: CudaGraphSession, session: Recorded, graph: Graph
) -> None:
    for rows in (SHORT, LONG, OTHER_SHORT, LONG, SHORT):
        np.testing.assert_allclose(logits(engine, rows, graph), right(rows), atol=1e-5)
    assert session.runs == [("plain", "-1"), ("plain", "-1"), ("bound", "0"), ("bound", "1"), ("bound", "0")]


def test_what_was_answered_stays_as_it_was_when_the_buffers_are_filled_again(engine: CudaGraphSession, graph: Graph) -> None:
    answers = [(rows, logits(engine, rows, graph)) for rows in (SHORT, OTHER_SHORT, SHORT, OTHER_SHORT)]
    for rows, answered in answers:
        np.testing.assert_allclose(answered, right(rows), atol=1e-5)


def test_the_callers_tensors_are_copied(engine: CudaGraphSession, graph: Graph) -> None:
    first = tensors_of(SHORT, graph)
    kept = {name: tensor.copy() for name, tensor in first.items()}
    engine.run(OUTPUTS, first, onnxruntime.RunOptions())
    logits(engine, OTHER_SHORT, graph)
    for name, tensor in first.items():
        assert (tensor == kept[name]).all()


@pytest.mark.parametrize("make", [packed_graph, padded_graph])
def test_a_session_over_it_answers_as_one_without(tmp_path: Path, make: Any) -> None:
    graph = make(tmp_path / "model.onnx")
    rows = [row(2, *range(4, 4 + i % 9), 3) for i in range(40)]

    def session_factory(file: Path, *_: object) -> OrtSession:
        return CudaGraphSession(Recorded(file), "cpu")

    made = EncoderEngine(tmp_path / "model.onnx", graph, CUDA, 1, session_factory)
    for _ in range(3):
        for some in (rows, rows[::-1], rows[:3], rows[:1]):
            for entry, output in zip(some, made.run_rows(some), strict=True):
                np.testing.assert_allclose(output["logits"], logits_of(entry), atol=1e-5)


def test_beyond_the_most_sets_of_shapes_others_run_without_buffers(session: Recorded, graph: Graph) -> None:
    engine = CudaGraphSession(session, "cpu", max_captured=1)
    for rows in (SHORT, LONG, LONG, OTHER_SHORT):
        np.testing.assert_allclose(logits(engine, rows, graph), right(rows), atol=1e-5)
    assert engine.num_bound == 1
    assert session.runs == [("plain", "-1"), ("plain", "-1"), ("plain", "-1"), ("bound", "0")]
    assert 1 < MAX_CAPTURED < 1000


def test_shapes_whose_capture_failed_are_never_captured_again_and_their_id_is_not_used_again(
    engine: CudaGraphSession, session: Recorded, graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    logits(engine, SHORT, graph)
    session.failing = RuntimeError("operation not permitted when stream is capturing")
    with caplog.at_level(logging.WARNING), pytest.raises(RuntimeError, match="capturing"):
        logits(engine, SHORT, graph)
    assert "without a CUDA graph" in caplog.text
    session.failing = None
    for rows in (SHORT, SHORT, LONG, LONG):
        np.testing.assert_allclose(logits(engine, rows, graph), right(rows), atol=1e-5)
    assert session.runs[2:] == [("plain", "-1"), ("plain", "-1"), ("plain", "-1"), ("bound", "1")]
    assert engine.num_bound == 1


def test_a_run_that_was_told_to_stop_before_it_began_is_not_replayed(
    engine: CudaGraphSession, session: Recorded, graph: Graph
) -> None:
    logits(engine, SHORT, graph)
    stopped = onnxruntime.RunOptions()
    stopped.terminate = True
    with pytest.raises(Exception, match="terminate flag"):
        engine.run(OUTPUTS, tensors_of(SHORT, graph), stopped)
    assert session.runs[1] == ("plain", "-1")
    np.testing.assert_allclose(logits(engine, SHORT, graph), right(SHORT), atol=1e-5)
    assert session.runs[2] == ("bound", "0")


def test_a_lack_of_memory_is_told_and_the_engine_goes_on(tmp_path: Path, graph: Graph) -> None:
    recorded = Recorded(tmp_path / "model.onnx")
    made = EncoderEngine(tmp_path / "model.onnx", graph, CUDA, 1, lambda *_: CudaGraphSession(recorded, "cpu"))
    made.run_rows(SHORT)
    recorded.failing = RuntimeError("CUDA failure 2: out of memory")
    with pytest.raises(OutOfMemory):
        made.run_rows(SHORT)
    recorded.failing = None
    for entry, output in zip(SHORT, made.run_rows(SHORT), strict=True):
        np.testing.assert_allclose(output["logits"], logits_of(entry), atol=1e-5)


def test_inputs_and_providers_are_the_sessions(engine: CudaGraphSession, graph: Graph) -> None:
    assert {entry.name for entry in engine.get_inputs()} == set(graph.inputs)
    assert engine.get_providers()[0] == "CUDAExecutionProvider"


# --- at load


@pytest.mark.parametrize("make", [packed_graph, padded_graph])
def test_the_smallest_tensors_are_captured_and_replayed_when_a_graph_is_loaded(tmp_path: Path, make: Any) -> None:
    graph = make(tmp_path / "model.onnx")
    session = Recorded(tmp_path / "model.onnx")
    try_capture(CudaGraphSession(session, "cpu"), graph)
    assert session.runs == [("plain", "-1"), ("bound", "0"), ("bound", "0")]


@pytest.fixture
def pretended(tmp_path: Path, graph: Graph, session: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """A session that says it is CUDA's, opened in place of one."""
    monkeypatch.setattr(engine_module.onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(engine_module.onnxruntime, "InferenceSession", lambda *_, **__: session)
    monkeypatch.setattr(engine_module, "CudaGraphSession", lambda entry: CudaGraphSession(entry, "cpu"))
    return session


def test_a_capturing_provider_gets_a_bound_engine_and_another_does_not(
    tmp_path: Path, graph: Graph, pretended: Recorded
) -> None:
    assert isinstance(open_session(tmp_path / "model.onnx", graph, CUDA, 1), CudaGraphSession)
    assert open_session(tmp_path / "model.onnx", graph, Provider("cuda", "fp32", ""), 1) is pretended


def test_what_cannot_be_captured_is_refused_when_it_is_loaded_and_the_setting_is_named(
    tmp_path: Path, graph: Graph, pretended: Recorded
) -> None:
    pretended.failing = RuntimeError("a node is on the CPU\nand so on")
    with pytest.raises(ProviderUnavailable, match=r"^HOOPER_CUDA_GRAPHS=true, but model.onnx cannot be captured: a node is on"):
        open_session(tmp_path / "model.onnx", graph, CUDA, 1)


def test_a_session_that_refuses_graphs_is_refused_and_the_setting_is_named(
    tmp_path: Path, graph: Graph, pretended: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("This session cannot use the graph capture feature")

    monkeypatch.setattr(engine_module.onnxruntime, "InferenceSession", refuse)
    with pytest.raises(ProviderUnavailable, match=r"cannot run model.onnx with HOOPER_CUDA_GRAPHS=true: This session cannot"):
        open_session(tmp_path / "model.onnx", graph, CUDA, 1)

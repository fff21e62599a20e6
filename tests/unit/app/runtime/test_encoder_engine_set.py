"""EngineSet: how many there are, what they share, and that all of them answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.core.errors import EngineLost, HooperError
from app.core.manifest import Graph
from app.core.sequences import Batch
from app.core.types import Device, RowOutput
from app.runtime import encoder_engine as encoder_engine_module
from app.runtime.encoder_engine import MAX_DEFAULT_STREAMS, open_engines
from app.runtime.onnx_session import InputInfo, OrtSession
from app.runtime.providers import Provider
from tests.support.faulty_engine import FaultySessionFactory
from tests.support.tiny_model import packed_graph, row

FP32, INT8 = Provider("cpu", "fp32", "for a test"), Provider("cpu", "int8", "for a test")
ROWS = [row(2, 4, 6, 3), row(2, 11, 3), row(2, 5, 3)]


def logits(outputs: Sequence[RowOutput | HooperError]) -> np.ndarray:
    return np.array([output["logits"] for output in outputs if not isinstance(output, HooperError)])


@pytest.mark.parametrize(
    ("provider", "num_threads", "requested", "num_parallel"),
    [
        (INT8, 1, 0, 0),
        (INT8, 2, 0, 2),
        (INT8, MAX_DEFAULT_STREAMS, 0, MAX_DEFAULT_STREAMS),
        (INT8, MAX_DEFAULT_STREAMS + 1, 0, 0),
        (INT8, MAX_DEFAULT_STREAMS + 1, MAX_DEFAULT_STREAMS, MAX_DEFAULT_STREAMS),
        (INT8, 2, 1, 0),
        (INT8, 2, 5, 2),
        (FP32, 2, 0, 0),
        (FP32, 2, 2, 2),
    ],
)
async def test_how_many_compute_side_by_side(
    tmp_path: Path, provider: Provider, num_threads: int, requested: int, num_parallel: int
) -> None:
    graph = packed_graph(tmp_path / "model.onnx")
    session_factory = FaultySessionFactory()
    engines = open_engines(tmp_path / "model.onnx", graph, provider, num_threads, requested, session_factory)
    assert len(engines.parallel) == num_parallel
    assert [entry.num_threads for entry in engines.parallel] == [1] * num_parallel
    assert engines.num_threads == num_threads
    assert session_factory.num_opened == (2 if num_parallel else 1)  # those beside share one
    await engines.aclose()


async def test_with_more_threads_than_streams_each_has_an_engine_and_its_share(tmp_path: Path) -> None:
    session_factory = FaultySessionFactory()
    engines = open_engines(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), FP32, 5, 2, session_factory)
    assert [entry.num_threads for entry in engines.parallel] == [2, 2]
    assert session_factory.num_opened == 3
    await engines.aclose()


async def test_by_default_it_is_the_cores_that_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_engine_module, "available_cores", lambda: 3)
    engines = open_engines(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), INT8)
    assert (engines.num_threads, len(engines.parallel)) == (3, 3)
    await engines.aclose()


class Elsewhere:
    """A graph on another device, which is never run."""

    def __init__(self, on_cpu: OrtSession) -> None:
        self._on_cpu = on_cpu

    def run(self, *_: object) -> Sequence[np.ndarray]:
        raise NotImplementedError

    def get_inputs(self) -> Sequence[InputInfo]:
        return self._on_cpu.get_inputs()

    def get_providers(self) -> list[str]:
        return ["SomeExecutionProvider"]


@pytest.mark.parametrize(
    ("device", "requested", "num_threads", "threads_of_each"),
    [
        ("cuda", 2, 2, [2]),
        ("tensorrt", 2, 2, [2]),
        ("openvino", 2, 2, [2, 1, 1]),  # each an engine of its own: OpenVINO has threads, and does not compute on the caller's
        ("openvino", 2, 5, [5, 2, 2]),
        ("openvino", 9, 3, [3, 1, 1, 1]),
        ("openvino", 1, 2, [2]),
        ("openvino", 0, 2, [2]),
    ],
)
def test_of_other_devices_processors_compute_side_by_side_where_that_is_asked_for(
    tmp_path: Path, device: Device, requested: int, num_threads: int, threads_of_each: list[int]
) -> None:
    graph = packed_graph(tmp_path / "model.onnx")
    on_cpu = open_engines(tmp_path / "model.onnx", graph, FP32, 2).exclusive.share_session()
    opened: list[int] = []

    def session_factory(_file: Path, _graph: Graph, _provider: Provider, num_threads: int) -> OrtSession:
        opened.append(num_threads)
        return Elsewhere(on_cpu)

    engines = open_engines(
        tmp_path / "model.onnx", graph, Provider(device, "fp32", "for a test"), num_threads, requested, session_factory
    )
    assert opened == [entry.num_threads for entry in (engines.exclusive, *engines.parallel)] == threads_of_each


async def test_all_answer_alike_at_the_same_time(tmp_path: Path) -> None:
    engines = open_engines(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), FP32, 2, 2)
    alone = await engines.exclusive.forward(Batch.of_rows(ROWS))
    for result in await asyncio.gather(*(entry.forward(Batch.of_rows(ROWS)) for _ in range(20) for entry in engines.parallel)):
        np.testing.assert_allclose(logits(result.outputs), logits(alone.outputs), atol=1e-5)
    assert engines.provider is FP32
    assert engines.execution_providers == ["CPUExecutionProvider"]
    await engines.aclose()


async def test_idle_engines_are_not_abandoned_where_nobody_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engines = open_engines(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), FP32, 2, 2)
    await asyncio.gather(*(entry.forward(Batch.of_rows(ROWS)) for entry in (engines.exclusive, *engines.parallel)))
    await engines.aclose(0.0)
    assert not caplog.records


async def test_a_session_that_is_closed_has_no_engine_to_share(tmp_path: Path) -> None:
    engines = open_engines(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), FP32, 2, 2)
    await engines.aclose()
    with pytest.raises(EngineLost):
        engines.exclusive.share_session()


async def test_closing_gives_every_engine_back(tmp_path: Path) -> None:
    engines = open_engines(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), FP32, 2, 2)
    await asyncio.gather(*(entry.forward(Batch.of_rows(ROWS)) for entry in (engines.exclusive, *engines.parallel)))
    await engines.aclose()
    assert all(entry._engine is None for entry in (engines.exclusive, *engines.parallel))

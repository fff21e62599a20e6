"""Sessions: how many there are, what they share, and that all of them answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.core.errors import EngineLost, HooperError
from app.core.types import RowOutput
from app.runtime import session as session_module
from app.runtime.engine import Engine
from app.runtime.providers import Provider
from app.runtime.sessions import MOST_STREAMS, open_sessions
from tests.support.faulty_engine import Faulty
from tests.support.tiny_model import packed_graph, row

FP32, INT8 = Provider("cpu", "fp32", "for a test"), Provider("cpu", "int8", "for a test")
ROWS = [row(2, 4, 6, 3), row(2, 11, 3), row(2, 5, 3)]


def logits(outputs: Sequence[RowOutput | HooperError]) -> np.ndarray:
    return np.array([one["logits"] for one in outputs if not isinstance(one, HooperError)])


@pytest.mark.parametrize(
    ("provider", "num_threads", "wished", "num_beside"),
    [
        (INT8, 1, 0, 0),
        (INT8, 2, 0, 2),
        (INT8, MOST_STREAMS, 0, MOST_STREAMS),
        (INT8, MOST_STREAMS + 1, 0, 0),
        (INT8, MOST_STREAMS + 1, MOST_STREAMS, MOST_STREAMS),
        (INT8, 2, 1, 0),
        (INT8, 2, 5, 2),
        (FP32, 2, 0, 0),
        (FP32, 2, 2, 2),
    ],
)
async def test_how_many_compute_side_by_side(
    tmp_path: Path, provider: Provider, num_threads: int, wished: int, num_beside: int
) -> None:
    graph = packed_graph(tmp_path / "model.onnx")
    opening = Faulty()
    sessions = open_sessions(tmp_path / "model.onnx", graph, provider, num_threads, wished, opening)
    assert len(sessions.beside) == num_beside
    assert [one.num_threads for one in sessions.beside] == [1] * num_beside
    assert sessions.num_threads == num_threads
    assert opening.num_opened == (2 if num_beside else 1)  # those beside share one
    await sessions.aclose()


async def test_with_more_threads_than_streams_each_has_an_engine_and_its_share(tmp_path: Path) -> None:
    opening = Faulty()
    sessions = open_sessions(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), FP32, 5, 2, opening)
    assert [one.num_threads for one in sessions.beside] == [2, 2]
    assert opening.num_opened == 3
    await sessions.aclose()


async def test_by_default_it_is_the_cores_that_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "available_cores", lambda: 3)
    sessions = open_sessions(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), INT8)
    assert (sessions.num_threads, len(sessions.beside)) == (3, 3)
    await sessions.aclose()


@pytest.mark.parametrize("device", ["cuda", "openvino", "tensorrt"])
def test_other_devices_compute_one_after_the_other(tmp_path: Path, device: str) -> None:
    graph = packed_graph(tmp_path / "model.onnx")
    cpu = open_sessions(tmp_path / "model.onnx", graph, FP32, 2).alone

    class Elsewhere:
        def get_inputs(self) -> object:
            return cpu._engine.get_inputs()  # type: ignore[union-attr]

        def get_providers(self) -> list[str]:
            return ["SomeExecutionProvider"]

    def opening(*_: object) -> Engine:
        return Elsewhere()  # type: ignore[return-value]

    provider = Provider(device, "fp16", "for a test")  # type: ignore[arg-type]
    assert not open_sessions(tmp_path / "model.onnx", graph, provider, 2, 2, opening).beside


async def test_all_answer_alike_at_the_same_time(tmp_path: Path) -> None:
    sessions = open_sessions(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), FP32, 2, 2)
    alone = await sessions.alone.run(ROWS)
    for result in await asyncio.gather(*(one.run(ROWS) for _ in range(20) for one in sessions.beside)):
        np.testing.assert_allclose(logits(result.outputs), logits(alone.outputs), atol=1e-5)
    assert sessions.provider is FP32
    assert sessions.execution_providers == ["CPUExecutionProvider"]
    await sessions.aclose()


async def test_idle_sessions_are_not_left_behind_where_nobody_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sessions = open_sessions(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), FP32, 2, 2)
    await asyncio.gather(*(one.run(ROWS) for one in (sessions.alone, *sessions.beside)))
    await sessions.aclose(0.0)
    assert not caplog.records


async def test_a_session_that_is_closed_has_no_engine_to_share(tmp_path: Path) -> None:
    sessions = open_sessions(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), FP32, 2, 2)
    await sessions.aclose()
    with pytest.raises(EngineLost):
        sessions.alone.opened_again()


async def test_closing_gives_every_engine_back(tmp_path: Path) -> None:
    sessions = open_sessions(tmp_path / "model.onnx", packed_graph(tmp_path / "model.onnx"), FP32, 2, 2)
    await asyncio.gather(*(one.run(ROWS) for one in (sessions.alone, *sessions.beside)))
    await sessions.aclose()
    assert all(one._engine is None for one in (sessions.alone, *sessions.beside))

"""The GPU's bench, as far as a CPU shows it: what it runs, what it counts, and that it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.batching.policy import Budget
from app.core.manifest import Parity, read_manifest
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.onnx_session import open_session
from app.runtime.providers import Provider
from scripts.bench import cuda
from scripts.bench.ceiling import batches_of, matrix_ceiling
from scripts.bench.cuda import MOST_BATCHES, Timed, Variant, filled, layouts, main, providers, rate_of, run_in_turn
from tests.support.tiny_model import packed_graph, padded_graph, publish_tiny, row

CUDA = Provider("cuda", "fp32", "a GPU")
VARIANT = Variant("fp32", False, "packed", 64)


def rows(*lengths: int) -> list[Row]:
    return [row(*[4] * length) for length in lengths]


def lengths_of(batches: Any) -> list[list[int]]:
    return [[one.num_tokens for one in batch] for batch in batches]


def test_padded_batches_are_counted_with_their_padding_and_packed_ones_without() -> None:
    some = rows(4, 4, 8, 2, 2)
    assert lengths_of(batches_of(some, Budget(16, 64, "packed"))) == [[4, 4, 8], [2, 2]]
    assert lengths_of(batches_of(some, Budget(16, 64, "padded"))) == [[4, 4], [8, 2], [2]]
    assert lengths_of(batches_of(some, Budget(16, 2, "packed"))) == [[4, 4], [8, 2], [2]]


def test_large_batches_are_filled_with_rows_that_come_again() -> None:
    batches = filled(rows(4, 4), Budget(64, 4096, "packed"))
    assert lengths_of(batches) == [[4] * 16] * 2
    assert len(filled(rows(*[4] * 1000), Budget(16, 4096, "packed"))) == MOST_BATCHES


def test_on_cuda_each_precision_that_is_allowed_runs_with_graphs_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "choose_provider", lambda _: CUDA)
    manifest = read_manifest(publish_tiny(tmp_path))
    assert [(one.precision, one.captures) for one in providers("cuda", manifest)] == [("fp32", False), ("fp32", True)]


def test_on_a_cpu_nothing_is_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "has_int8", lambda: True)
    manifest = read_manifest(publish_tiny(tmp_path))
    graph = manifest.graph.model_copy(update={"variants": {"int8": "model.onnx"}})
    proven = Parity(rows=5, agreement=1.0, max_abs_error=0.0, passed=True)
    both = manifest.model_copy(update={"graph": graph, "parity": {"int8": proven}})
    assert [(one.precision, one.captures) for one in providers("cpu", both)] == [("fp32", False), ("int8", False)]
    assert [one.precision for one in providers("cpu", manifest)] == ["fp32"]


def test_a_padded_graph_is_not_packed(tmp_path: Path) -> None:
    assert layouts(packed_graph(tmp_path / "a.onnx")) == ["packed", "padded"]
    assert layouts(padded_graph(tmp_path / "b.onnx")) == ["padded"]


def test_every_batch_is_run_and_what_is_computed_is_counted(tmp_path: Path) -> None:
    timed: list[Timed] = []

    def session_factory(*given: Any) -> Timed:
        timed.append(Timed(open_session(*given)))
        return timed[0]

    graph = padded_graph(tmp_path / "model.onnx")
    session = EncoderEngine(tmp_path / "model.onnx", graph, Provider("cpu", "fp32", ""), 1, session_factory)
    batches = [rows(4, 2), rows(3)]
    ran, took = run_in_turn(session, batches, 0)
    assert ran == batches
    assert timed[0].num_tokens == 2 * 4 + 3
    assert 0 < timed[0].seconds < took


def test_a_rate_is_told_of_texts_and_of_the_engine_alone(tmp_path: Path) -> None:
    engine = Timed(open_session(tmp_path / "m.onnx", packed_graph(tmp_path / "m.onnx"), Provider("cpu", "fp32", ""), 1))
    engine.seconds, engine.num_tokens = 0.5, 40
    rate = rate_of(VARIANT, engine, [rows(10, 10), rows(10)], 2.0, flop_per_token=10**9, matrix=120)
    assert (rate.rows_a_batch, rate.padding, rate.texts_per_s, rate.tokens_per_s) == (1.5, 0.25, 1.5, 15.0)
    assert (rate.engine_share, rate.engine_gflop_per_s, rate.share_of_matrix) == (0.25, 60.0, 0.5)


def test_a_matrix_product_runs_in_either_precision() -> None:
    assert matrix_ceiling(1, 0.01) > 0
    assert matrix_ceiling(1, 0.01, "cpu", "fp16", 16) > 0


def test_it_runs_on_a_cpu_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(tmp_path, "tiny")
    given = ["--models", str(tmp_path), "--model", "tiny/1", "--device", "cpu", "--threads", "1"]
    output = tmp_path / "out" / "cuda.json"
    assert main([*given, "--budgets", "512", "--seconds", "0.02", "--output", str(output)]) == 0
    found = json.loads(output.read_text(encoding="utf-8"))
    assert [one["variant"]["layout"] for one in found["rates"]] == ["packed", "padded"]
    assert all(one["texts_per_s"] > 0 for one in found["rates"])
    assert found["rates"][0]["padding"] < found["rates"][1]["padding"]
    assert "fusion finds 0" in found["without"]["PackedAttention"]
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(("device", "model"), [("cpu", "nothing/1"), ("cuda", "tiny/1")])
def test_what_is_not_there_ends_it_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, device: str, model: str
) -> None:
    def missing(_: str) -> Provider:
        raise cuda.HooperError("there is no CUDA")

    publish_tiny(tmp_path, "tiny")
    monkeypatch.setattr(cuda, "choose_provider", missing)
    assert main(["--models", str(tmp_path), "--model", model, "--device", device]) == 2
    assert capsys.readouterr().err.startswith("cuda: ")

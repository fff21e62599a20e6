"""The engine alone: batches as full as the budget, every text through the production code, and matrix products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.batching.policy import Budget
from app.core.manifest import read_manifest
from app.core.types import Row
from app.runtime.providers import Provider
from scripts.bench import engine
from scripts.bench.engine import batches_of, matrix_gflop_per_s, measure_engine, num_multiplied_weights, provider_for, rows_of
from tests.support.tiny_model import publish_tiny, row

CPU = Provider("cpu", "fp32", "for the test")


def rows(*lengths: int) -> list[Row]:
    return [row(*[4] * length) for length in lengths]


def lengths_of(batches: Any) -> list[list[int]]:
    return [[each.num_tokens for each in batch] for batch in batches]


def test_padded_batches_are_counted_with_their_padding_and_packed_ones_without() -> None:
    some = rows(4, 4, 8, 2, 2)
    assert lengths_of(batches_of(some, Budget(16, 64, "packed"))) == [[4, 4, 8], [2, 2]]
    assert lengths_of(batches_of(some, Budget(16, 64, "padded"))) == [[4, 4], [8, 2], [2]]
    assert lengths_of(batches_of(some, Budget(16, 2, "packed"))) == [[4, 4], [8, 2], [2]]


def test_the_engine_alone_runs_every_text_through_the_production_code(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path, "tiny")
    texts = ["good film", "bad"]
    rate = measure_engine(folder, texts, CPU, 1, max_tokens=64, max_rows=8, seconds=0.02)
    assert rate.texts_per_s > 0
    num_tokens = [each.num_tokens for each in rows_of(folder, texts)]
    assert rate.tokens_per_s / rate.texts_per_s == pytest.approx(sum(num_tokens) / 2)
    assert rate.gflop_per_s is not None


def test_without_onnx_weights_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    rate = measure_engine(publish_tiny(tmp_path, "tiny"), ["good"], CPU, 1, max_tokens=64, max_rows=8, seconds=0.01)
    assert rate.gflop_per_s is None


def test_tables_that_are_looked_up_are_not_multiplied() -> None:
    file = Path("models/sentiment/2/model.onnx")
    assert num_multiplied_weights(file) == pytest.approx(6 * (4 * 384**2 + 2 * 384 * 1536) + 384 * 384 + 2 * 384, rel=0.001)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_matrix_product_runs_in_either_precision(precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PRODUCT", (16, 32, 64))
    assert matrix_gflop_per_s(1, 0.01, Provider("cpu", precision, "for the test")) > 0


@pytest.mark.parametrize(("variable", "captures"), [("", False), ("true", True), ("false", False)])
def test_on_cuda_graphs_are_captured_where_the_service_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, captures: bool
) -> None:
    manifest = read_manifest(publish_tiny(tmp_path, "tiny"))
    monkeypatch.setattr(engine, "choose_provider", lambda _: Provider("cuda", "fp32", "a GPU"))
    monkeypatch.setenv("HOOPER_CUDA_GRAPHS", variable)
    assert provider_for(manifest, "cuda", "auto").captures is captures

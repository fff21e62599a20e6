"""The benchmark's parts that decide what its figures mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.bench.ceiling import engine_ceiling, num_multiplied_weights
from scripts.bench.command import main
from scripts.bench.load import Measured, Sample
from scripts.bench.report import Line, Report
from scripts.bench.texts import LONG_SHARE, PROFILES, profile_texts
from tests.support.live_service import free_port
from tests.support.tiny_model import publish_tiny

MODEL = {"name": "sentiment", "version": 1, "provider": "CPUExecutionProvider", "precision": "fp32", "layout": "packed"}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_the_same_every_time_and_has_its_share_of_long_texts(profile: str) -> None:
    texts = profile_texts(profile)  # type: ignore[arg-type]
    assert texts == profile_texts(profile)  # type: ignore[arg-type]
    share = sum(len(text) > 400 for text in texts) / len(texts)
    assert share == pytest.approx(LONG_SHARE[profile], abs=0.15)  # type: ignore[index]


def test_a_line_counts_texts_and_says_which_share_of_the_engine_they_are() -> None:
    measured = Measured([Sample(0.01, 200)] * 20 + [Sample(0.5, 429)], seconds=2)
    line = Line.of("short", "32 connections", 32, measured, engine=400)
    assert (line.texts_per_s, line.share_of_engine, line.failed, line.p50_ms) == (320, 0.8, 1, 10)


def test_the_page_shows_every_load_and_the_ceilings() -> None:
    report = Report(MODEL, matrix_gflop_per_s=100.0)
    report.ceilings["short"] = {"texts_per_s": 200.0, "tokens_per_s": 5000.0, "gflop_per_s": 80.0}
    report.lines.append(Line.of("short", "1 connection", 1, Measured([Sample(0.01, 200)], 1), 200.0))
    page = report.to_markdown()
    assert "engine alone, short: 200 texts/s, 5000 tokens/s, 0.80 of the machine's fp32 matrix products" in page
    assert "| short | 1 connection | 1 | 1.0 | 0.01 | 10.0 | 10.0 | 10.0 | 0 |" in page
    assert json.loads(json.dumps(report.to_json()))["lines"][0]["texts_per_s"] == 1.0


def test_the_engine_alone_runs_every_text_through_the_production_code(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path, "tiny")
    ceiling = engine_ceiling(folder, ["good film", "bad"], "cpu", 1, max_tokens=64, max_rows=8, seconds=0.02)
    assert ceiling.texts_per_s > 0
    assert ceiling.tokens_per_s / ceiling.texts_per_s == pytest.approx(3.5)


def test_tables_that_are_looked_up_are_not_multiplied() -> None:
    file = Path("models/sentiment/1/model.onnx")
    assert num_multiplied_weights(file) == pytest.approx(6 * (4 * 384**2 + 2 * 384 * 1536) + 384 * 384 + 2 * 384, rel=0.001)


def test_a_service_that_is_not_there_is_told_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", f"http://127.0.0.1:{free_port()}", "--seconds", "0.1"]) == 2
    assert "does not tell of a model sentiment" in capsys.readouterr().err

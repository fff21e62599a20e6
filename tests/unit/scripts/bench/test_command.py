"""`hooper bench`: what its figures mean, that a service is really asked, and that it needs neither torch nor onnx."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from app.core.errors import SetupError
from scripts.bench import command
from scripts.bench.command import BenchReport, LoadLine, main
from scripts.bench.load import LoadResult, Sample, model_state
from scripts.bench.service import Address
from scripts.bench.texts import LONG_SHARE, PROFILES, profile_texts
from tests.support.live_service import ROOT, free_port, serving
from tests.support.tiny_model import publish_tiny, publish_tiny_task

MODEL = {"name": "sentiment", "version": 1, "provider": "CPUExecutionProvider", "precision": "fp32", "layout": "packed"}
MACHINE = {"processor": "a processor", "cores": 2}
RESULT = LoadResult([Sample(0.01, 200)] * 20 + [Sample(0.5, 429)], seconds=2)


def report(*lines: LoadLine) -> BenchReport:
    return BenchReport(MODEL, MACHINE, "2026-01-01", lines=list(lines))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_the_same_every_time_and_has_its_share_of_long_texts(profile: str) -> None:
    texts = profile_texts(profile)  # type: ignore[arg-type]
    assert texts == profile_texts(profile)  # type: ignore[arg-type]
    share = sum(len(text) > 400 for text in texts) / len(texts)
    assert share == pytest.approx(LONG_SHARE[profile], abs=0.15)  # type: ignore[index]


def test_a_line_counts_texts_and_says_which_share_of_the_engine_they_are() -> None:
    line = LoadLine.of("short", "32 connections", 32, RESULT, engine=400)
    assert (line.texts_per_s, line.share_of_engine, line.failed, line.p50_ms) == (320, 0.8, 1, 10)


def test_the_page_shows_every_load_and_the_ceilings() -> None:
    page = report(LoadLine.of("short", "1 connections", 1, LoadResult([Sample(0.01, 200)], 1), 200.0))
    page.matrix_gflop_per_s = 100.0
    page.ceilings["short"] = {"texts_per_s": 200.0, "tokens_per_s": 5000.0, "gflop_per_s": 80.0}
    assert "engine alone, short: 200 texts/s, 5000 tokens/s, 0.80 of the matrix peak" in page.to_markdown()
    assert "| short | 1 connections | 1 | 1.0 | 0 | 10.0 | 10.0 | 10.0 | 0 |" in page.to_markdown()
    assert json.loads(json.dumps(asdict(page)))["lines"][0]["texts_per_s"] == 1.0


@pytest.mark.parametrize("has_matplotlib", [True, False])
def test_results_are_kept_with_a_picture_where_it_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_matplotlib: bool
) -> None:
    if has_matplotlib:
        pytest.importorskip("matplotlib")
    monkeypatch.setattr(command, "find_spec", lambda _: has_matplotlib or None)
    monkeypatch.setattr(command, "run", lambda _: report(LoadLine.of("mixed", "32 connections", 32, RESULT, None)))
    assert main(["--output", str(tmp_path / "results")]) == 1  # one of the requests failed
    files = {file.name: file.read_text() for file in (tmp_path / "results").iterdir()}
    assert set(files) == {"bench.json", "bench.md"} | ({"bench.svg"} if has_matplotlib else set())
    assert ("bench.svg" in files["bench.md"]) == has_matplotlib
    if has_matplotlib:
        assert ">320</text>" in files["bench.svg"]
        assert "texts/s</text>" in files["bench.svg"]


def test_a_service_that_is_not_there_is_told_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", f"http://127.0.0.1:{free_port()}", "--seconds", "0.1"]) == 2
    assert "does not tell of a model sentiment" in capsys.readouterr().err


@pytest.mark.slow
def test_a_service_is_really_asked_without_torch_and_onnx_and_only_a_model_that_classifies(tmp_path: Path) -> None:
    publish_tiny(tmp_path, "tiny")
    publish_tiny_task(tmp_path, "question-answering", "reader")
    words = ["--models", str(tmp_path), "--model", "tiny", "--device", "cpu", "--profile", "short", "--items", "1", "2"]
    words += ["--connections", "1", "--rate", "50", "--seconds", "0.2", "--json"]
    missing = "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'transformers', 'matplotlib')))"
    code = f"{missing}; from scripts.bench.command import main; sys.exit(main({words!r}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads(ran.stdout)
    assert [(line["load"], line["items"]) for line in found["lines"]] == [
        (load, items) for items in (1, 2) for load in ("1 connections", "50 requests/s")
    ]
    assert all(line["failed"] == 0 < line["texts_per_s"] for line in found["lines"])
    assert found["ceilings"]["short"]["texts_per_s"] > 0
    assert found["matrix_gflop_per_s"] is None
    with serving(tmp_path) as service, pytest.raises(SetupError, match="reader does not classify texts"):
        model_state(Address.of(service.url), "reader")


def test_the_options_former_name_for_comparing_still_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = pytest.importorskip("scripts.peers.compare")
    asked: list[list[str]] = []
    monkeypatch.setattr(compare, "main", lambda words: asked.append(words) or 0)
    assert main(["--peer", "litserve", "--profile", "short", "--connections", "1", "32"]) == 0
    options = " ".join(asked[0])
    assert "--peer litserve --profile short --connections 1 32" in options
    assert "--output" not in options

"""The ratio is of figures from one run, and the command is really run for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scripts.bench.batch_rate import Turn, main
from tests.support.tiny_model import publish_tiny


def test_a_ratio_compares_with_the_engine_before_and_after() -> None:
    assert Turn(100.0, 97.0, 94.0).ratio == 1.0
    assert Turn(100.0, 50.0, 100.0).ratio == 0.5


def test_both_are_really_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(tmp_path, "tiny")
    given = ["--models", str(tmp_path), "--model", "tiny/1", "--device", "cpu", "--threads", "1", "--profile", "short"]
    assert main([*given, "--seconds", "0.05", "--turns", "2", "--output", str(tmp_path / "out" / "rate.json")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    pattern = r"short  ratio [\d.]+  batch [\d,]+ texts/s, engine alone ([\d,]+) before, ([\d,]+) after"
    one, two = re.fullmatch(pattern, first), re.fullmatch(pattern, second)
    assert one is not None
    assert two is not None
    assert one[2] == two[1]
    told = json.loads((tmp_path / "out" / "rate.json").read_text())["profiles"]["short"]
    assert len(told["ratios"]) == len(told["batch_texts_per_s"]) == 2
    assert len(told["engine_texts_per_s"]) == 3
    assert min(told["ratios"]) <= told["median_ratio"] <= max(told["ratios"])

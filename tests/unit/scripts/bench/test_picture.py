"""The picture of a benchmark says what its table says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from scripts.bench import command
from scripts.bench.load import Measured, Sample
from scripts.bench.picture import draw_bench
from scripts.bench.report import Line, Report
from scripts.bench.versus import Standing

MODEL = {"name": "sentiment", "version": 1, "provider": "CPUExecutionProvider", "precision": "fp32", "layout": "packed"}
LINE = Line.of("mixed", "32 connections", 32, Measured([Sample(0.01, 200)] * 20, 2), None)


def standing(title: str, connections: int, rate: float) -> Standing:
    return Standing("short", connections, title, rate, [rate], 1.0, 2.0, 0)


def test_everybody_who_was_asked_has_a_bar_for_each_load(tmp_path: Path) -> None:
    asked = [standing(title, number, rate) for title, rate in (("Ours", 123.0), ("Theirs", 45.0)) for number in (1, 32)]
    draw_bench(Report(MODEL, lines=[LINE], standings=asked), tmp_path / "bench.svg")
    drawn = (tmp_path / "bench.svg").read_text()
    for word in ("Ours", "Theirs", "1 connection", "32 connections", "requests/s"):
        assert f"{word}</text>" in drawn
    assert drawn.count(">123</text>") == drawn.count(">45</text>") == 2


def test_where_nobody_else_was_asked_the_service_is_shown_alone(tmp_path: Path) -> None:
    draw_bench(Report(MODEL, lines=[LINE]), tmp_path / "bench.svg")
    drawn = (tmp_path / "bench.svg").read_text()
    assert ">320</text>" in drawn
    assert "texts/s</text>" in drawn


@pytest.mark.parametrize("has_matplotlib", [True, False])
def test_results_are_kept_with_a_picture_where_it_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_matplotlib: bool
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: has_matplotlib or None)
    monkeypatch.setattr(command, "run", lambda _: Report(MODEL, lines=[LINE]))
    assert command.main(["--output", str(tmp_path / "results")]) == 0
    names = {"bench.json", "bench.md"} | ({"bench.svg"} if has_matplotlib else set())
    assert {one.name for one in (tmp_path / "results").iterdir()} == names
    assert ("bench.svg" in (tmp_path / "results" / "bench.md").read_text()) == has_matplotlib

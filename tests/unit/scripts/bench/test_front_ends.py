"""Numbers of front ends are compared within one run, and a model that computes nothing is a model all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.settings import PREFIX
from scripts.bench.front_ends import main, publish_idle_model, summary
from tests.support.tiny_model import publish_tiny


def turn(front_ends: int, requests_per_s: float) -> dict[str, float]:
    return {"front_ends": front_ends, "requests_per_s": requests_per_s}


def test_a_ratio_is_of_medians_and_to_the_fewest_front_ends() -> None:
    found = summary([turn(1, 100), turn(4, 390), turn(1, 300), turn(4, 400), turn(1, 200), turn(4, 10)])
    assert found["median_requests_per_s"] == {"1": 200, "4": 390}
    assert found["times_the_fewest"] == {"1": 1.0, "4": 1.95}
    assert len(found["turns"]) == 6


def test_nothing_is_divided_by_nothing() -> None:
    assert summary([turn(1, 0), turn(2, 7)])["times_the_fewest"] == {"1": None, "2": None}


@pytest.mark.slow
def test_both_models_are_really_asked_through_one_process_and_through_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "PORT", "1")  # which the benchmark chooses itself
    publish_tiny(tmp_path, "tiny")
    given = ["--models", str(tmp_path), "--model", "tiny/1", "--device", "cpu", "--threads", "1", "--front-ends", "1", "2"]
    small = ["--turns", "1", "--seconds", "0.3", "--warm-up", "0.1", "--connections", "4", "--callers", "1"]
    assert main([*given, *small, "--output", str(tmp_path / "out" / "front_ends.json")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0].split() for line in lines] == [
        [name, '{"front_ends":', number] for name in ("idle", "tiny") for number in ("1", "2")
    ]
    report = json.loads((tmp_path / "out" / "front_ends.json").read_text(encoding="utf-8"))
    for name in ("idle", "tiny"):
        one, two = report["models"][name]["turns"]
        assert (len(one["front_end_cores"]), len(two["front_end_cores"])) == (0, 2)
        assert min(one["requests_per_s"], two["requests_per_s"]) > 0
        assert one["failed"] == two["failed"] == 0


def test_a_model_that_is_not_there_ends_it_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", str(tmp_path), "--model", "nothing/1", "--callers", "1"]) == 2
    assert capsys.readouterr().err.startswith("front_ends: ")


def test_the_idle_model_is_published_whole(tmp_path: Path) -> None:
    folder = publish_idle_model(publish_tiny(tmp_path, "tiny"), tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["golden.json", "manifest.json", "model.onnx", "tokenizer.json"]
    [golden] = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    assert [entry["score"] for entry in golden["answer"]["labels"]] == [0.5, 0.5]

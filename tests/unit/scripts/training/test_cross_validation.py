"""Options are compared on training rows alone, and each of them is judged once by each way."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings, SetupError
from scripts.training import cross_validation as module


def test_ways_are_compared_row_by_row_with_the_first() -> None:
    found = module.compare({"default": [1, 0, 0, 1], "other": [1, 1, 0, 1]})
    assert found["default"] == {"accuracy": 0.5, "better_by": 0.0, "standard_error": 0.0}
    assert found["other"] == {"accuracy": 0.75, "better_by": 0.25, "standard_error": 0.25}


def test_one_fold_is_trained_and_judged_with_the_options_of_the_way(reviews: Path, base_folder: Path) -> None:
    values = module.recipe_values([str(reviews)], [], f"--epochs 2 --base-model {base_folder}")
    found = module.judge(values, fold=1, num_folds=3)
    assert (len(found["right"]), found["epochs"]) == (16, 2)  # a third of the 48 rows that `hooper train` trains on
    assert set(found["right"]) <= {0, 1}


def test_several_labels_a_text_are_refused(tmp_path: Path, base_folder: Path) -> None:
    data = tmp_path / "tags.jsonl"
    rows = [{"text": f"film {number}", "labels": [("a", "b")[number % 2]]} for number in range(20)]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(InvalidSettings, match="one label each"):
        module.judge({"data": [str(data)], "base_model": str(base_folder)}, 0, 2)


def test_the_report_holds_each_way_with_its_options_and_all_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def judged(options: argparse.Namespace, way: str, fold: int) -> dict[str, Any]:
        return {"right": [1, int(way == "long"), fold], "seconds": 10.0 + 2 * fold, "epochs": 4.0}

    monkeypatch.setattr(module, "judge_in_subprocess", judged)
    file = tmp_path / "new" / "report.json"
    ways = ["--way", "default", "", "--way", "long", "--epochs 9"]
    assert module.main(["/my/some/data.csv", "--folds", "2", *ways, "--output", str(file)]) == 0
    report = json.loads(file.read_text(encoding="utf-8"))
    assert (report["data"], report["folds"]) == (["some/data.csv"], 2)
    assert report["ways"]["default"]["options"] == ""
    assert report["ways"]["long"] | {"standard_error": 0} == {
        "options": "--epochs 9",
        "epochs": 4.0,
        "seconds_per_training": 11,
        "rows": 6,
        "right": "110111",
        "accuracy": 0.8333,
        "better_by": 0.3333,
        "standard_error": 0,
    }
    assert "long: 0.8333, +0.3333" in capsys.readouterr().out


def test_what_the_report_has_is_not_trained_again_unless_its_options_or_folds_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def judged(options: argparse.Namespace, way: str, fold: int) -> dict[str, Any]:
        asked.append((way, fold))
        return {"right": [1, fold], "seconds": 1.0, "epochs": 2.0}

    monkeypatch.setattr(module, "judge_in_subprocess", judged)
    file = tmp_path / "report.json"

    def run(folds: int, *ways: str) -> tuple[list[tuple[str, int]], list[str]]:
        asked.clear()
        words = [word for way in ways for word in ("--way", way[0], way[1:])]
        assert module.main(["data.csv", "--folds", str(folds), *words, "--output", str(file)]) == 0
        return sorted(asked), list(json.loads(file.read_text(encoding="utf-8"))["ways"])

    assert run(2, "a--epochs 1") == ([("a", 0), ("a", 1)], ["a"])
    assert run(2, "b--epochs 2") == ([("b", 0), ("b", 1)], ["a", "b"])
    assert run(2, "a--epochs 3", "b--epochs 2") == ([("a", 0), ("a", 1)], ["b", "a"])
    assert run(3, "b--epochs 2") == ([("b", 0), ("b", 1), ("b", 2)], ["b"])
    drawn_otherwise = {key: value for key, value in json.loads(file.read_text(encoding="utf-8")).items() if key != "cut"}
    file.write_text(json.dumps(drawn_otherwise), encoding="utf-8")
    assert run(3, "b--epochs 2") == ([("b", 0), ("b", 1), ("b", 2)], ["b"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--folds", "1"], "--folds is 1"),
        (["--at-once", "0"], "--at-once is 0"),
        (["--way", "one", "", "--way", "one", "--epochs 2"], "a name of its own"),
    ],
)
def test_what_cannot_be_compared_is_refused(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert module.main(["data.csv", *given]) == module.EXIT_SETUP
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    options = module.parser().parse_args([str(tmp_path / "missing.csv"), "--way", "default", ""])
    with pytest.raises(SetupError, match=r"default failed: cross_validation: .*missing\.csv"):
        module.judge_in_subprocess(options, "default", 0)


@pytest.mark.parametrize("words", ["--seed 3", "--split 0.5", "--max-rows 9", "--data other.csv"])
def test_options_that_decide_which_rows_are_judged_are_refused(words: str) -> None:
    with pytest.raises(InvalidSettings, match=f"a way takes no {words.split()[0]}"):
        module.recipe_values(["data.csv"], [], words)


@pytest.mark.parametrize("text", ["not json", '{"lines": []}', "[]"])
def test_a_file_of_something_else_is_not_written_over(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    file.write_text(text, encoding="utf-8")
    assert module.main(["data.csv", "--output", str(file)]) == module.EXIT_SETUP
    assert "other.json is no report of this command" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == text

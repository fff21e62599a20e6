"""A training that was stopped says how to go on, and does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.core.manifest import read_manifest
from scripts.export.verify import ParityFailed
from scripts.training import pipeline as pipeline_module
from scripts.training.recipe import load_recipe
from scripts.training.run_folder import RunFolder
from tests.unit.scripts.conftest import (
    Train,
    press_ctrl_c,
    stop_at,
)


@pytest.mark.parametrize(
    "how", ["ctrl-c", pytest.param("twice", marks=pytest.mark.slow), pytest.param("crash", marks=pytest.mark.slow)]
)
def test_a_stopped_run_says_how_to_go_on_and_does(
    how: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash() -> None:
        raise RuntimeError("the power went")

    def twice() -> None:
        press_ctrl_c()
        press_ctrl_c()

    with monkeypatch.context() as patched:
        stop_at(4, patched, {"ctrl-c": press_ctrl_c, "twice": twice, "crash": crash}[how])
        assert train() == (1 if how == "crash" else 130)
    errors = capsys.readouterr().err
    assert "resume with: hooper train reviews.csv" in errors.replace("Resume", "resume")
    assert errors.rstrip().endswith("--resume")
    assert ("the power went" in errors) is (how == "crash")
    assert not (tmp_path / "models").exists()
    assert train("--resume") == 0
    printed = capsys.readouterr().out
    assert "resuming from runs/reviews/checkpoint-" in printed
    evaluation = json.loads((tmp_path / "models" / "reviews" / "1" / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["training"]["resumed_after_updates"] >= 3
    assert evaluation["training"]["updates"] == 6


def test_a_run_that_failed_after_training_goes_on_without_training_again(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any) -> None:
        raise ParityFailed("the exported fp32 graph does not reproduce the torch model")

    def fail(*arguments: Any) -> None:
        raise AssertionError("trained again")

    with monkeypatch.context() as patched:
        patched.setattr(pipeline_module, "make_graph", refuse)
        assert train() == 2
    errors = capsys.readouterr().err
    others = [line for line in errors.splitlines() if not line.startswith("training ")]
    assert len(others) == 1  # beside the progress
    assert "does not reproduce the torch model. The trained model is kept; resume with: hooper train" in errors
    monkeypatch.setattr(pipeline_module, "fine_tune", fail)
    assert train("--resume", "--storage", "fp32") == 0
    assert read_manifest(tmp_path / "models" / "reviews" / "1").graph.storage == "fp32"


@pytest.mark.slow
def test_without_resume_a_run_begins_anew(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        stop_at(4, patched, press_ctrl_c)
        assert train() == 130
    assert train("--seed", "4") == 0
    evaluation = json.loads((tmp_path / "models" / "reviews" / "1" / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["training"]["resumed_after_updates"] == 0


def test_a_run_cannot_be_resumed_with_another_recipe_or_other_data(
    train: Train, reviews: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        stop_at(4, patched, press_ctrl_c)
        assert train() == 130
    capsys.readouterr()
    assert train("--resume", "--learning-rate", "0.5") == 2
    assert "learning_rate (was 0.0001, is 0.5)" in capsys.readouterr().err
    reviews.write_text(reviews.read_text(encoding="utf-8") + "a new film,positive\n", encoding="utf-8")
    assert train("--resume") == 2
    assert "the data has changed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_finished_run_of_another_tool_is_accepted_once_its_recipe_is_written_down(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train() == 0
    run = RunFolder(tmp_path / "runs" / "reviews")
    for path in [*run.checkpoints, run.path / "cost.json", run.path / "recipe.json"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert train("--resume") == 2
    overrides = {"data": ["reviews.csv"], "name": "reviews", "epochs": 1.0, "batch_size": 8, "precision": "fp32"}
    base = json.loads((tmp_path / "models" / "reviews" / "1" / "evaluation.json").read_text(encoding="utf-8"))["command"]
    run.remember(load_recipe(None, {**overrides, "base_model": base.split("--base-model ")[1].split()[0]}))
    assert train("--resume") == 0
    assert "was not written down" in (tmp_path / "models" / "reviews" / "2" / "README.md").read_text(encoding="utf-8")

"""Training goes on from a published version, and says what it took over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.manifest import read_manifest
from tests.unit.scripts.conftest import fast_options, main, write_reviews


@pytest.fixture(scope="module")
def reviews_1(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `reviews/1` was trained and published."""
    folder = tmp_path_factory.mktemp("further")
    write_reviews(folder / "reviews.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert main(["reviews.csv", *fast_options(base_folder), "--license", "MIT"]) == 0
    return folder


@pytest.fixture
def here(reviews_1: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(reviews_1)
    return reviews_1


def further(base: str, name: str, *options: str, data: str = "reviews.csv") -> int:
    return main([data, "--base-model", base, "--name", name, "--epochs", "1", "--batch-size", "8", *options])


def training_of(folder: Path) -> dict[str, Any]:
    evaluation: dict[str, Any] = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return {**evaluation["training"], "command": evaluation["command"], "held_out": evaluation["data"]["held_out"]}


def test_a_model_s_name_means_the_version_that_serves_and_command_and_card_name_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert further("reviews", "again") == 0
    folder = here / "models" / "again" / "1"
    assert read_manifest(folder).base_model == "reviews/1"
    training = training_of(folder)
    assert "--base-model reviews/1 " in f"{training['command']} "
    assert training["beginning"]["head_kept"] is True
    sentence = "raining goes on from reviews/1 (made from tiny-bert): its weights, its head, a new optimizer; its licence: MIT"
    assert sentence in (folder / "README.md").read_text(encoding="utf-8")
    out = capsys.readouterr().out
    assert sentence in out
    assert training["held_out"] == 12
    assert "left out of the held-out ones" not in out


def test_held_out_rows_that_the_version_was_trained_on_are_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert further("models/reviews/1", "otherwise", "--seed", "5") == 0
    folder = here / "models" / "otherwise" / "1"
    left = training_of(folder)["held_out"]
    assert 0 < left < 12
    sentence = (
        f"{12 - left} rows left out of the held-out ones: reviews/1, with which this training begins, was trained on them"
    )
    assert sentence in capsys.readouterr().out
    assert sentence in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_other_labels_get_a_new_head_that_begins_as_a_probe_of_what_the_old_one_read(here: Path) -> None:
    text = (here / "reviews.csv").read_text(encoding="utf-8").replace("positive", "praise")
    (here / "praise.csv").write_text(text, encoding="utf-8")
    assert further("reviews/1", "praise", data="praise.csv") == 0
    folder = here / "models" / "praise" / "1"
    assert training_of(folder)["beginning"]["head_kept"] is False
    assert training_of(folder)["probe"]["folds"] == 5
    assert read_manifest(folder).graph.outputs[0].pooling == "first"
    assert "its weights, a new head, a new optimizer" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_dry_run_says_what_is_not_there_before_anything_is_trained(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert further("reviews/9", "never", "--dry-run") == 2
    assert "there is no version reviews/9 in models; write NAME/VERSION" in capsys.readouterr().err
    assert further("reviews", "never", "--dry-run") == 0
    assert not (here / "models" / "never").exists()

"""A version that is worse on the same held-out rows is published and does not serve, until somebody says so."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.cli import commands
from app.core.artefact import read_serving
from app.serving.repository import Repository
from scripts.export import succession
from scripts.train_and_export import main
from tests.unit.scripts.conftest import Train, fast_options, write_reviews

NAMED = ("--name", "reviews")
GOOD = (*NAMED, "--epochs", "6", "--learning-rate", "3e-3")
BAD = (*NAMED, "--epochs", "0.2", "--learning-rate", "1e-6")


@pytest.fixture(scope="module")
def good(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three hundred reviews, so that a fifth of them tells good from bad, and what was trained well on them."""
    folder = tmp_path_factory.mktemp("good")
    write_reviews(folder / "many.csv", 300)
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        assert main(["many.csv", *fast_options(base_folder), *GOOD]) == 0
    assert "serves" not in printed.getvalue().split("report ")[0]  # nothing came before it
    return folder


@pytest.fixture
def train_many(good: Path, train: Train, tmp_path: Path) -> Train:
    """Trains on those reviews where `reviews/1` has been trained well."""
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    return lambda *arguments: train(*arguments, data="many.csv")


def served(folder: Path) -> int | None:
    return Repository(folder / "models").served_version("reviews")


def replaces(folder: Path, version: int) -> dict[str, object]:
    body = json.loads((folder / "models" / "reviews" / str(version) / "evaluation.json").read_text(encoding="utf-8"))
    return dict(body.get("replaces", {}))


def test_a_worse_version_does_not_serve_until_it_is_promoted_as_is_printed(
    train_many: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_many(*BAD) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"reviews/2 is worse than reviews/1 and does not serve: accuracy 0\.\d{4} against [01]\.\d{4} on the same 60"
        r" held-out rows \(95 % interval of how much better it is: -0\.\d+ to -0\.\d+\)",
        out,
    )
    assert served(tmp_path) == 1
    assert replaces(tmp_path, 2)["serves"] is False
    (line,) = [line for line in out.splitlines() if line.startswith("promote it:")]
    command = shlex.split(line.partition(": ")[2], comments=True)
    assert commands.main(command[1:]) == 0
    assert served(tmp_path) == 2


@pytest.mark.slow
def test_a_better_version_serves_in_place_of_the_one_before(
    train_many: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_many(*BAD, "--serve-anyway") == 0
    assert train_many(*GOOD) == 0
    assert served(tmp_path) == 3
    assert "reviews/3 serves from the next start on, in place of reviews/2: accuracy" in capsys.readouterr().out


def test_a_worse_version_serves_where_somebody_says_so(
    train_many: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_many(*BAD, "--serve-anyway") == 0
    assert served(tmp_path) == 2
    out = capsys.readouterr().out
    assert "in place of reviews/1 although it is worse" in out
    assert "promote it" not in out
    assert "\ngo back:    hooper models promote reviews/1  #" in out
    assert "--serve-anyway" not in (tmp_path / "models" / "reviews" / "2" / "README.md").read_text(encoding="utf-8")


def test_on_other_rows_it_is_only_said(train_many: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_many(*BAD, "--seed", "3") == 0
    assert served(tmp_path) == 2
    out = capsys.readouterr().out
    assert "in place of reviews/1, although it is worse on these rows: accuracy" in out
    assert "these are other rows than reviews/1 was judged on" in out
    assert "\ngo back:    hooper models promote reviews/1  #" in out
    assert (replaces(tmp_path, 2)["same_rows"], replaces(tmp_path, 2)["serves"]) == (False, True)


@pytest.mark.slow
def test_a_version_before_it_that_cannot_be_opened_keeps_nobody_from_serving(
    train_many: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models" / "reviews" / "1" / "golden.json").write_text("[]")
    assert train_many(*BAD) == 0
    record = read_serving(tmp_path / "models" / "reviews")
    assert record is not None
    assert (record.version, record.why) == (2, "published")
    assert "differs from the checksum" in capsys.readouterr().out


def test_worse_by_no_more_than_chance_serves_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"new": np.array([0.0, 1, 1, 1]), "old": np.array([1.0, 1, 1, 1])}
    training: Any = SimpleNamespace(
        name="text-classification",
        metric_of=lambda examples: "accuracy",
        serving_options=lambda: None,
        row_scores=lambda answers, examples: right[answers],
        evaluate=lambda answers, examples, options: {"headline": {"accuracy": right[answers].mean()}},
    )
    before: Any = SimpleNamespace(
        name="a/1", manifest=SimpleNamespace(task=training.name), task=None, session=None, folder=Path()
    )
    monkeypatch.setattr(succession, "predict", lambda *arguments: SimpleNamespace(answers="old"))
    result = succession._Comparison("a/2", before, training, [], "new", {}).succession(serve_anyway=False)
    assert result.serves
    assert result.is_lower
    assert result.rollback("models") == "hooper models promote a/1"
    assert result.sentence.startswith(
        "a/2 serves from the next start on, in place of a/1, although it is worse on these rows, but by no more than chance"
        " explains: accuracy 0.7500 against 1.0000"
    )

"""Tables and lines of a terminal: of labels that a text may have several of, all that are selected."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from app import cli
from app.tasks.text_classification.spec import lines
from tests.support.tiny_model import publish_tiny

LABELS = ("bad", "fine", "good")
THRESHOLDS = {"bad": 0.0, "fine": 0.0, "good": 1.0}


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, str]]]:
    """What `hooper batch` writes about two texts, the second of which is empty."""
    publish_tiny(tmp_path / "models", "topics", labels=LABELS, problem_type="multi_label_classification", thresholds=THRESHOLDS)
    publish_tiny(tmp_path / "models", "tiny")
    (tmp_path / "in.csv").write_text('text\ngood\n" "\n', encoding="utf-8")

    def run(model: str, *options: str) -> list[dict[str, str]]:
        files = [str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), "--models", str(tmp_path / "models"), "--device", "cpu"]
        cli.main(["batch", "--model", model, *files, "--overwrite", *options])
        capsys.readouterr()
        with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    return run


@pytest.mark.parametrize("options", [[], ["--top-k", "1"]])
def test_a_table_holds_all_selected_labels_beside_the_best(
    table: Callable[..., list[dict[str, str]]], options: list[str]
) -> None:
    good, empty = table("topics", *options)
    assert set(good["selected"].split("|")) == {"bad", "fine"}
    assert good["label"] in LABELS
    assert "label_2" not in good
    assert (empty["selected"], empty["label"]) == ("", "")
    assert "empty" in empty["error"]


def test_a_table_may_hold_more_of_the_best(table: Callable[..., list[dict[str, str]]]) -> None:
    good, _ = table("topics", "--top-k", "2", "--threshold", "0")
    assert set(good["selected"].split("|")) == set(LABELS)
    assert {"label", "label_2"} <= good.keys()


def test_a_table_of_one_label_a_text_is_as_it_was(table: Callable[..., list[dict[str, str]]]) -> None:
    good, _ = table("tiny")
    assert "selected" not in good


def test_a_terminal_shows_every_selected_label() -> None:
    labels = [
        {"label": "a", "score": 0.9, "selected": True},
        {"label": "b", "score": 0.4, "selected": False},
        {"label": "c", "score": 0.3, "selected": True},
    ]
    shown = lines({"text": "x"}, {"labels": labels}, 1)
    assert [line.answer for line in shown] == ["✓ a", "✓ c"]
    plain = [{"label": "a", "score": 0.9}, {"label": "b", "score": 0.1}]
    assert [line.answer for line in lines({"text": "x"}, {"labels": plain}, 1)] == ["a"]

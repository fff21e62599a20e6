"""Samples of few rows: drawn apart from what is judged, trained once each, and summed up by means and their errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.exit_codes import EXIT_SETUP
from scripts.peers.small_data import DEFAULT, TFIDF, LabelledSet, main, markdown, standard_error, summary
from tests.unit.scripts.conftest import write_reviews

TEST_ROWS = 40


@pytest.fixture
def words(tmp_path: Path) -> str:
    return f"{write_reviews(tmp_path / 'reviews.csv', count=100)} --label-column label"


@pytest.fixture
def labelled(words: str) -> LabelledSet:
    return LabelledSet("reviews", words, TEST_ROWS)


def result(set: str, rows: int, seed: int, way: str, accuracy: float) -> dict[str, Any]:
    return {
        "set": set, "rows": rows, "seed": seed, "way": way, "accuracy": accuracy, "macro_f1": accuracy, "seconds": 2.0
    }  # fmt: skip


def test_no_sample_has_a_row_that_is_judged(labelled: LabelledSet) -> None:
    for seed in range(3):
        prepared = labelled.sample(20, seed)
        assert prepared is not None
        judged = {example.item.text for example in prepared.dataset.validation}
        assert len(judged) == TEST_ROWS
        assert len(prepared.dataset.train) == 20
        assert not judged & {example.item.text for example in prepared.dataset.train}


def test_samples_have_every_label_alike_and_depend_on_the_seed(labelled: LabelledSet) -> None:
    samples = [labelled.sample(20, seed) for seed in (0, 0, 1)]
    texts = [[example.item.text for example in sample.dataset.train] for sample in samples if sample]
    assert texts[0] == texts[1] != texts[2]
    assert samples[0] is not None
    positive = [example for example in samples[0].dataset.train if example.target == "positive"]
    assert 8 <= len(positive) <= 12


@pytest.mark.parametrize("rows", [3, 61])
def test_there_is_no_sample_of_more_rows_than_there_are_or_of_too_few_for_the_labels(rows: int, labelled: LabelledSet) -> None:
    assert labelled.sample(rows, 0) is None


def test_every_way_is_measured_once_and_the_journal_is_gone_on_with(
    words: str, base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, output = tmp_path / "journal.jsonl", tmp_path / "table.json"
    options = ["--set", "reviews", words, "--way", DEFAULT, f"--base-model {base_folder} --epochs 1 --precision fp32"]
    options += ["--rows", "20", "--seeds", "2", "--test-rows", str(TEST_ROWS), "--journal", str(journal)]
    assert main(options) == 0
    measured = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert [(cell["seed"], cell["way"]) for cell in measured] == [(0, TFIDF), (0, DEFAULT), (1, TFIDF), (1, DEFAULT)]
    before = journal.read_bytes()
    assert main([*options, "--output", str(output)]) == 0
    assert journal.read_bytes() == before
    assert "| reviews | 20 | 2 |" in capsys.readouterr().out
    assert [entry["way"] for entry in json.loads(output.read_text(encoding="utf-8"))["table"]] == [TFIDF, DEFAULT]


def test_a_set_of_too_few_rows_is_a_sentence(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--set", "reviews", words, "--test-rows", "500", "--journal", str(tmp_path / "journal.jsonl")]
    assert main(options) == EXIT_SETUP
    assert "small_data: reviews has 100 rows; more than 500 are needed" in capsys.readouterr().err


def test_ways_are_compared_on_the_same_samples() -> None:
    finished = [
        *(result("a", 50, seed, TFIDF, accuracy) for seed, accuracy in enumerate((0.5, 0.7, 0.9))),
        *(result("a", 50, seed, DEFAULT, accuracy) for seed, accuracy in enumerate((0.6, 0.9))),
    ]
    base, default = summary(finished)
    assert (base["seeds"], default["seeds"]) == (2, 2)
    assert default["better_than_tfidf"] == pytest.approx(0.15)
    assert default["standard_error_of_difference"] == pytest.approx(0.05)
    assert base["accuracy"] == pytest.approx(0.6)
    assert base["better_than_tfidf"] == 0.0


def test_a_line_of_the_table_has_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    finished = [result("a", 50, 0, TFIDF, 0.5), result("a", 50, 0, DEFAULT, 0.75), result("a", 100, 0, TFIDF, 0.5)]
    lines = markdown(summary(finished)).splitlines()
    assert lines[2] == "| a | 50 | 1 | 0.500 | 0.500 | 2 s | 0.750 | 0.750 | 2 s | +0.250 |"
    assert lines[-1] == "hooper train: +0.250 against TF-IDF on average over 1 lines, at least +0.250"
    assert len(lines) == 5


def test_one_value_has_no_standard_error() -> None:
    assert standard_error([0.5]) is None
    assert standard_error([0.4, 0.6]) == pytest.approx(0.1)

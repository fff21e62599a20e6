"""What is said of a classifier, on answers that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scripts.report.build import build
from scripts.report.page import to_html
from scripts.tasks.text_classification.report import likely_label_errors
from scripts.tasks.text_classification.task import SPEC
from tests.unit.scripts.conftest import Evaluate

PAIRS = [("a good film", "good"), ("a bad film", "bad"), ("very very bad", "good"), ("the film was good .", "bad")]


def test_the_confusion_counts_what_was_said_beside_what_is_right(evaluate_tiny: Evaluate) -> None:
    report = build(evaluate_tiny([*PAIRS, ("bad .", "good")]), {})
    assert report["headline"]["accuracy"] == 0.4
    assert report["confusion"]["matrix"] == [[1, 1], [2, 1]]
    assert report["confusion"]["pairs"][0] == {"right": "good", "guessed": "bad", "rows": 2, "of": 3}


def test_the_worst_errors_come_with_the_words_that_misled_the_model(evaluate_tiny: Evaluate) -> None:
    first, second = build(evaluate_tiny(PAIRS), {})["worst"]
    assert first["loss"] > second["loss"]
    assert (first["right"], first["guessed"], first["where"]) == (["good"], ["bad"], "a.csv:4")
    heaviest = max(first["words"], key=lambda entry: entry["weight"])
    assert first["fields"]["text"][heaviest["start"] : heaviest["end"]] == "bad"


def test_top_losses_are_the_wrong_ones_alone(evaluate_tiny: Evaluate) -> None:
    evaluated = evaluate_tiny(PAIRS)
    assert [error["where"] for error in SPEC.worst_errors(evaluated, 10)] == ["a.csv:4", "a.csv:5"]
    assert len(SPEC.worst_errors(evaluated, 1)) == 1


def test_a_label_that_the_model_confidently_denies_is_suspected() -> None:
    scores = np.array([[0.9, 0.1]] * 5 + [[0.2, 0.8]] * 5 + [[0.95, 0.05], [0.45, 0.55]])
    given = np.array([0] * 5 + [1] * 5 + [1, 0])
    # row 10 is counted under 0 as surely as the rows of 0; row 11 leans to 1, but less than rows of 1 usually do
    assert likely_label_errors(scores, given) == [(10, 0)]


def test_a_label_without_rows_suspects_nobody() -> None:
    assert likely_label_errors(np.array([[0.5, 0.5], [0.6, 0.4]]), np.array([0, 0])) == []


def test_the_models_own_thresholds_are_measured_on_rows_that_they_were_not_fitted_on(evaluate_tiny: Evaluate) -> None:
    pairs = [("bad", ("bad",)), ("good", ("good",)), ("a film", ()), ("bad good", ("bad", "good"))] * 3
    problem = {"problem_type": "multi_label_classification", "thresholds": {"bad": 1.0, "good": 0.0}}
    evaluated = evaluate_tiny(pairs, **problem)
    section = build(evaluated, {})["thresholds"]
    # nothing reaches 1, and everything 0: of twelve texts six are good
    assert section["at_published"] == {"f1": {"bad": 0.0, "good": 0.6667}, "macro_f1": 0.3333, "accuracy": 0.25}
    assert "At the model's own thresholds, which were fitted on other rows, macro F1 is 0.333" in to_html(build(evaluated, {}))
    fitted = build(replace(evaluated, are_options_fitted=True), {})
    assert fitted["thresholds"]["at_published"] == {}
    assert "At the model's own thresholds" not in to_html(fitted)

"""Temperature scaling of classifiers, on logits that are too sure of themselves by a known factor."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from scripts.tasks.spec import Calibration
from scripts.tasks.text_classification import scores as class_scores
from scripts.tasks.text_classification.scores import MIN_ROWS, calibrated, decisions, log_loss, scores_of


def fit(logits: np.ndarray, truth: np.ndarray, multi: bool) -> Calibration:
    return class_scores.fit(logits, truth, multi, ["data"] * len(logits))


def drawn(factor: float, multi: bool, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `factor` times those by which labels were drawn."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (count, 3))
    if multi:
        return factor * logits, (random.random((count, 3)) < expit(logits)).astype(int)
    chosen = [random.choice(3, p=entry) for entry in softmax(logits, -1)]
    return factor * logits, np.eye(3, dtype=int)[chosen]


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("factor", [0.7, 2.5])
def test_the_factor_is_found_and_the_error_falls(factor: float, multi: bool) -> None:
    found = fit(*drawn(factor, multi), multi)
    assert found.task_options["temperature"] == pytest.approx(factor, rel=0.1)
    assert found.metrics["expected_calibration_error"] < 0.03 < found.metrics["expected_calibration_error_before"]


def test_what_is_calibrated_already_is_left_alone_or_nearly() -> None:
    assert fit(*drawn(1.0, False), False).task_options.get("temperature", 1.0) == pytest.approx(1.0, abs=0.06)


def test_a_temperature_that_helps_no_other_rows_is_not_kept() -> None:
    logits, truth = np.zeros((200, 3)), np.eye(3, dtype=int)[np.arange(200) % 3]
    assert fit(logits, truth, False).task_options == {}


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_a_score_from_which_on_answers_may_be_trusted_is_told_with_and_without_a_temperature(factor: float) -> None:
    kept = fit(*drawn(factor, False), False).metrics["selective"]
    assert 0.95 <= kept["accuracy"] < 0.98
    assert kept["score"] == pytest.approx(0.96, abs=0.02)  # of what is calibrated then
    assert "selective" not in fit(*drawn(factor, True), True).metrics  # labels have thresholds of their own


def test_few_rows_fit_nothing() -> None:
    logits, truth = drawn(2.5, False, MIN_ROWS - 1)
    assert fit(logits, truth, False).metrics == {"rows": MIN_ROWS - 1, "rows_wanted": MIN_ROWS}


def test_no_row_is_judged_by_a_temperature_that_it_was_fitted_on() -> None:
    logits, truth = drawn(2.5, False, 200)
    before = calibrated(logits, truth, False)
    changed = truth.copy()
    changed[0] = np.roll(truth[0], 1)  # only the other half's temperature may follow from it
    assert np.array_equal(calibrated(logits, changed, False)[0], before[0])


def test_decisions_are_about_the_best_label_or_about_all() -> None:
    scores, truth = np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([[1, 0], [1, 0]])
    assert [decision.tolist() for decision in decisions(scores, truth, False)] == [[0.7, 0.6], [1, 0]]
    assert [decision.tolist() for decision in decisions(scores, truth, True)] == [[0.7, 0.3, 0.4, 0.6], [1, 0, 1, 0]]


def test_the_loss_is_that_of_the_right_label() -> None:
    assert log_loss(scores_of(np.zeros((2, 4)), 1.0, False), np.eye(4)[:2], False) == pytest.approx(np.log(4))

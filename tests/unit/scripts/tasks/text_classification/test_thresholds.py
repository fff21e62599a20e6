"""Thresholds of labels are fitted on rows, and measured on others."""

from __future__ import annotations

import numpy as np

from scripts.tasks.text_classification.thresholds import evaluate, fit


def test_a_threshold_lies_between_the_scores_that_it_parts() -> None:
    scores = np.array([[0.1], [0.2], [0.3], [0.4]] * 10)
    truth = (scores >= 0.3).astype(int)
    metrics = evaluate(scores, truth, ["a"])
    assert metrics["per_label"] == [{"label": "a", "threshold": 0.25, "f1_at_half": 0.0, "f1": 1.0, "rows": 20}]
    assert (metrics["macro_f1_at_half"], metrics["macro_f1"]) == (0.0, 1.0)
    assert (metrics["accuracy_at_half"], metrics["accuracy"]) == (0.5, 1.0)


def test_a_rare_label_keeps_the_usual_threshold() -> None:
    scores, truth = np.array([[0.1], [0.2], [0.3]]), np.array([[0], [0], [1]])
    assert fit(scores, truth).tolist() == [0.5]


def test_no_row_is_measured_by_a_threshold_that_it_was_fitted_on() -> None:
    generator = np.random.default_rng(0)
    scores, truth = generator.random((4000, 3)), (generator.random((4000, 3)) < 0.3).astype(int)
    fitted = fit(scores, truth)
    on_all = 2 * (truth * (scores >= fitted)).sum(0) / (truth.sum(0) + (scores >= fitted).sum(0))
    # the scores say nothing: the best threshold of these rows is only theirs
    assert evaluate(scores, truth, ["a", "b", "c"])["macro_f1"] < on_all.mean()

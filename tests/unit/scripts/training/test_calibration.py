"""Calibration: temperatures, lines over log-odds, expected calibration error, and scores that may be trusted."""

from __future__ import annotations

import numpy as np
import pytest

from app.tasks.platt import PlattScaling, log_odds
from scripts.training.calibration import (
    MIN_ROWS,
    Decisions,
    expected_calibration_error,
    fit_platt,
    fit_temperature,
    halves,
    log_loss,
    scale_scores,
    scaling_of,
    selective_accuracy,
    threshold_for,
)


def test_perfect_scores_have_no_error_and_boasting_ones_have() -> None:
    right = np.array([1, 1, 1, 0, 0, 0, 1, 0], float)
    assert expected_calibration_error(np.array([1.0, 1, 1, 0, 0, 0, 1, 0]), right) == 0
    assert expected_calibration_error(np.full(8, 0.99), right) == pytest.approx(0.49)


def test_the_error_weighs_each_bin_by_its_rows() -> None:
    scores, right = np.array([0.05] * 9 + [0.95]), np.array([0.0] * 9 + [0.0])
    assert expected_calibration_error(scores, right) == pytest.approx((9 * 0.05 + 0.95) / 10)


def test_the_temperature_with_the_least_log_loss_is_taken() -> None:
    scores, right = drawn(4000)
    boasting = 2.5 * log_odds(scores)  # a model that is too sure of itself
    assert fit_temperature(lambda t: log_loss(1 / (1 + np.exp(-boasting / t)), right)) == pytest.approx(2.5, rel=0.1)


def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are probabilities, and whether the answers were right."""
    random = np.random.default_rng(0)
    scores = 1 / (1 + np.exp(-random.normal(0, 2, count)))
    return scores, (random.random(count) < scores).astype(float)


def distorted(count: int, num_rows: int, slope: float = 2.0, intercept: float = 1.0) -> Decisions:
    """Scores whose log-odds must be halved, and are too high by one half then; rows of two sources in turn."""
    scores, right = drawn(count)
    wrong = PlattScaling(slope, intercept)(scores)
    return Decisions(wrong, right, np.arange(count) * num_rows // count, ["a", "b"] * (num_rows // 2))


def test_the_line_that_makes_scores_probabilities_is_found_and_measured_on_other_rows() -> None:
    found = scale_scores(distorted(4000, 1000))
    assert found.task_options["score_slope"] == pytest.approx(0.5, rel=0.1)
    assert found.task_options["score_intercept"] == pytest.approx(-0.5, abs=0.1)
    figures = found.metrics
    assert figures["expected_calibration_error"] < 0.03 < figures["expected_calibration_error_before"]
    assert 0.005 < figures["expected_calibration_error_by_chance"] < 0.03
    assert (figures["rows"], figures["selective"]["rows"]) == (1000, 4000)
    assert [entry["answers"] for entry in figures["by_source"].values()] == [2000, 2000]
    assert sum(entry["rows"] for entry in figures["bins"]) == 4000


def test_limits_are_found_where_there_are_some_and_left_out_where_not() -> None:
    scores, right = drawn(6000)
    random = np.random.default_rng(1)
    limited = np.where(random.random(6000) < 0.3, (random.random(6000) < 0.6).astype(float), right)  # 0.18 to 0.88
    found = scale_scores(Decisions(scores, limited, np.arange(6000), ["a"] * 6000))
    assert found.task_options["score_floor"] == pytest.approx(0.18, abs=0.06)
    assert found.task_options["score_ceiling"] == pytest.approx(0.88, abs=0.06)
    assert scaling_of(found.task_options).floor == found.task_options["score_floor"]
    assert found.metrics["expected_calibration_error"] < 0.03
    few = scale_scores(distorted(200, 200))
    assert "score_slope" in few.task_options


def test_no_answer_is_judged_by_a_line_that_its_row_was_fitted_on() -> None:
    decisions = distorted(800, 200)
    for fitted, measured in decisions.parts:
        assert not set(decisions.rows[fitted]) & set(decisions.rows[measured])
    assert sorted(np.concatenate([measured for _, measured in decisions.parts])) == list(range(800))


def test_scores_that_are_probabilities_already_are_left_alone_and_told() -> None:
    scores, right = drawn(150)
    found = scale_scores(Decisions(scores, right, np.arange(150), ["a"] * 150))
    assert found.task_options == {}
    assert found.metrics["expected_calibration_error"] == found.metrics["expected_calibration_error_before"]


def test_of_few_rows_nothing_is_fitted_and_it_is_said_how_many_there_were() -> None:
    found = scale_scores(distorted(4000, MIN_ROWS - 2))
    assert (found.task_options, found.metrics) == ({}, {"rows": MIN_ROWS - 2, "rows_wanted": MIN_ROWS})


def test_a_line_that_would_fall_is_none() -> None:
    scores, right = drawn(2000)
    assert fit_platt(scores, 1 - right) == PlattScaling()
    assert fit_platt(scores, np.ones(2000)) == PlattScaling()


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_halves_are_measured_on_what_they_were_not_fitted_on(count: int) -> None:
    parts = halves(count)
    assert sorted(np.concatenate([measured for _, measured in parts])) == list(range(count))
    if count > 1:
        assert all(not set(fitted) & set(measured) for fitted, measured in parts)


def test_the_lowest_score_that_keeps_enough_right_answers_is_taken_and_equal_scores_stay_together() -> None:
    scores, right = np.repeat([0.9, 0.8, 0.7, 0.6], 100), np.repeat([1, 1, 0, 1, 0], [100, 50, 50, 100, 100])
    assert threshold_for(scores, right, 0.75) == 0.7  # 83 % of 300
    assert threshold_for(scores, right, 0.82) == 0.9  # 83 % of 300 may be luck
    assert threshold_for(scores, right, 0.9) == 0.9  # not 0.8, though the first half of those is right
    assert threshold_for(scores, 1 - right, 0.9) is None


def test_what_is_kept_is_measured_on_rows_that_the_score_was_not_fitted_on() -> None:
    random = np.random.default_rng(0)
    scores = random.random(4000)
    right = (random.random(4000) < scores).astype(float)  # from a score of 0.9 on, 95 % are right, and 10 % have such a score
    kept = selective_accuracy(scores, right)
    assert kept["score"] == pytest.approx(0.92, abs=0.03)
    assert kept["accuracy"] == pytest.approx(0.96, abs=0.015)
    assert kept["share"] == pytest.approx(0.08, abs=0.03)
    chance = (random.random(400) < 0.5).astype(float)
    assert selective_accuracy(random.random(400), chance)["score"] is None  # what was luck is not told as skill

"""Calibration, ROUGE, and SQuAD's exact match and F1."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.training.metrics import (
    exact_match,
    expected_calibration_error,
    f1,
    fit_temperature,
    halves,
    normalized,
    oracle,
    precision,
    rouge,
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
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 4000)
    right = (random.random(4000) < 1 / (1 + np.exp(-logits))).astype(float)
    boasting = 2.5 * logits  # a model that is too sure of itself
    table = {t: 1 / (1 + np.exp(-boasting / t)) for t in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)}
    assert fit_temperature(table, right) == pytest.approx(2.5, abs=0.5)


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
    assert selective_accuracy(random.random(400), chance).get("accuracy", 0.5) < 0.8  # what was luck is not told as skill


DOCUMENT = ["The council met on Tuesday.", "It closed the market hall.", "Rain fell.", "Forty traders must move by March."]
REFERENCE = ["The market hall is closed.", "Forty traders move by March."]


def test_a_summary_equal_to_its_reference_scores_100() -> None:
    assert rouge(REFERENCE, REFERENCE) == pytest.approx({"rouge1": 100, "rouge2": 100, "rougeLsum": 100})


def test_known_figures() -> None:
    # cat sat -> 2 of 3 words each way, 1 of 2 pairs; stems are compared
    assert rouge(["the cat sat"], ["cats sat down"]) == pytest.approx({"rouge1": 200 / 3, "rouge2": 50, "rougeLsum": 200 / 3})
    assert rouge(["abc"], ["xyz"]) == {"rouge1": 0, "rouge2": 0, "rougeLsum": 0}


def test_the_oracle_takes_what_comes_closest_in_the_documents_order() -> None:
    assert oracle(REFERENCE, DOCUMENT, 3) == [1, 3]
    assert oracle(REFERENCE, DOCUMENT, 1) == [3]


def test_the_oracle_stops_where_nothing_helps() -> None:
    assert oracle(["Rain fell."], DOCUMENT, 3) == [2]
    assert oracle(["quite another matter"], ["Nothing", "here"], 3) == []
    assert oracle(["x"], [], 3) == []


def test_precision_is_the_share_of_a_sentence_that_the_reference_has() -> None:
    found = precision(["Heavy rain fell."], ["Rain fell.", "Rain fell on a town.", "Nothing", "", "rain rain"])
    assert found == pytest.approx([1.0, (2 / 5 + 1 / 4) / 2, 0.0, 0.0, 1 / 4])


# prediction, truths, exact match, F1: worked out by hand from the rules of the published scripts
KNOWN = [
    ("Denver Broncos", ["Denver Broncos", "Denver Broncos", "Denver Broncos"], 1, 1.0),
    ("the Denver Broncos.", ["Denver Broncos"], 1, 1.0),
    ("Broncos", ["Denver Broncos", "The Broncos"], 1, 1.0),
    ("Broncos", ["Denver Broncos"], 0, 2 / 3),
    ("Santa Clara, California", ["Levi's Stadium in Santa Clara", "Santa Clara"], 0, 4 / 5),
    ("February 7 , 2016", ["February 7, 2016"], 1, 1.0),
    ("an apple a day", ["apple day"], 1, 1.0),
    ("gold gold", ["gold"], 0, 2 / 3),  # a word counts as often as both have it
    ("$3.5 million", ["35 million"], 1, 1.0),  # punctuation goes without a trace
    ("half-time", ["halftime"], 1, 1.0),
    ("half time", ["halftime"], 0, 0.0),
    ("", ["something"], 0, 0.0),
    ("", [], 1, 1.0),  # v2.0: no answer is right where there is none
    ("something", [], 0, 0.0),
    ("the", ["a"], 1, 1.0),  # nothing is left of either
    ("Étude", ["étude"], 1, 1.0),
]


@pytest.mark.parametrize(("prediction", "truths", "exact", "overlap"), KNOWN)
def test_figures_are_those_of_the_published_rules(prediction: str, truths: list[str], exact: float, overlap: float) -> None:
    assert exact_match(prediction, truths) == exact
    assert f1(prediction, truths) == pytest.approx(overlap)


def test_what_is_compared_is_bare() -> None:
    assert normalized("  The (quick)  brown\tfox, an A-1! ") == "quick brown fox a1"

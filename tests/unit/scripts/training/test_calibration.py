"""A temperature under which scores are probabilities, and an honest measure of how far they are from that."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.training.calibration import expected_calibration_error, fit_temperature, halves


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

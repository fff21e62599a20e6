"""Scores on a line over their log-odds."""

from __future__ import annotations

import numpy as np
import pytest

from app.tasks.platt import PlattScaling, log_odds


def test_by_default_scores_stay_to_the_last_bit() -> None:
    scores = np.array([0.0, 1e-300, 0.1 + 0.2, 1.0])
    assert np.array_equal(PlattScaling()(scores), scores)


def test_log_odds_are_multiplied_and_moved() -> None:
    assert PlattScaling(0.5, 1.0)(0.9) == pytest.approx(1 / (1 + np.exp(-(0.5 * np.log(9) + 1))))
    assert log_odds(PlattScaling(2.0, -3.0)([0.3, 0.6])) == pytest.approx(2 * log_odds([0.3, 0.6]) - 3)


def test_probabilities_lie_between_their_limits() -> None:
    scores = PlattScaling(2.0, 0.0, 0.2, 0.9)([0.0, 0.5, 1.0])
    assert scores == pytest.approx([0.2, 0.55, 0.9])


@pytest.mark.parametrize("scaling", [PlattScaling(), PlattScaling(0.4, 3.0), PlattScaling(1.5, -6.0, 0.4, 0.95)])
def test_what_was_scaled_is_found_again(scaling: PlattScaling) -> None:
    scores = np.array([0.01, 0.3, 0.5, 0.99])
    assert scaling.inverse(scaling(scores)) == pytest.approx(scores)


def test_certainty_becomes_a_number_and_no_order_changes() -> None:
    scores = PlattScaling(0.3, -2.0)(np.linspace(0, 1, 101))
    assert np.isfinite(scores).all()
    assert (np.diff(scores) > 0).all()
    assert 0 < scores[0] < scores[-1] < 1

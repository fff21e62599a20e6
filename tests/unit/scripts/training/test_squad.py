"""EM and F1 are SQuAD's own: worked examples of the published evaluation scripts' rules."""

from __future__ import annotations

import pytest

from scripts.training.squad import exact_match, f1, normalized

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

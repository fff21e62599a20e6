"""ROUGE, and SQuAD's exact match and F1."""

from __future__ import annotations

import pytest

from scripts.training.metrics import (
    exact_match,
    f1,
    normalized,
    oracle,
    precision,
    rouge,
)

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

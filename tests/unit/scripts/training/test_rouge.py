"""ROUGE is the package's; the oracle finds what comes closest."""

from __future__ import annotations

import pytest

from scripts.training.rouge import oracle, precision, rouge

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

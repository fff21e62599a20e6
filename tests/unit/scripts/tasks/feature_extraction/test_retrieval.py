"""Partners that are looked for: places, ties, texts that are there twice, and partners that do not compete."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from app.tasks.feature_extraction.task import Similarities, SimilarityItem
from scripts.tasks.feature_extraction.retrieval import Search, retrieval_metrics, search
from scripts.training.data import Example

ANGLES = {"a": 0, "p": 20, "near": 10, "far": 90, "again": 25, "b": 80}
"""In degrees, of each text's vector."""


def vector(text: str) -> list[float]:
    angle = np.radians(ANGLES[text.lower()])
    return [float(np.cos(angle)), float(np.sin(angle))]


def found(*rows: tuple[str, ...]) -> Search:
    examples = [Example(SimilarityItem(first, others), None, "s", "s:1") for first, *others in map(list, rows)]  # type: ignore[arg-type]
    answers = [Similarities([], np.array([vector(text) for text in row], np.float32)) for row in rows]
    return search(answers, examples)


def test_a_partner_has_the_place_of_its_cosine_and_what_is_nearer_is_named() -> None:
    result = found(("a", "p"), ("b", "near"), ("b", "far"))
    assert result.ranks.tolist()[0] == 2  # "near" is nearer
    assert (result.nearest[0], result.num_texts) == ("near", 3)
    assert result.cosines[0].round(3).tolist() == [0.94, 0.985]


def test_partners_of_one_text_do_not_compete_and_it_does_not_find_itself() -> None:
    assert found(("a", "p"), ("a", "near"), ("b", "A")).ranks.tolist()[:2] == [1, 1]


def test_a_text_that_is_there_twice_is_one_and_a_negative_competes() -> None:
    result = found(("a", "p", "near"), ("b", "NEAR"), ("b", "far"))
    assert (result.ranks.tolist()[0], result.num_texts) == (2, 3)


def test_a_tie_is_no_merit() -> None:
    ANGLES["same"] = 20
    assert found(("a", "p"), ("b", "same")).ranks.tolist()[0] == 2


def test_alone_there_is_nothing_to_find_in_its_place() -> None:
    result = found(("a", "p"))
    assert (result.ranks.tolist(), result.nearest) == ([1], [""])


def test_figures_are_shares_of_partners_among_the_first_places() -> None:
    assert retrieval_metrics(np.array([1, 2, 6, 11])) == {
        "recall_at_1": 0.25, "recall_at_5": 0.5, "recall_at_10": 0.75, "mrr": round((1 + 1 / 2 + 1 / 6 + 1 / 11) / 4, 4)
    }  # fmt: skip

"""The losses of vectors, beside those of sentence-transformers, and what is no negative."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from scripts.tasks.feature_extraction.losses import SCALE, batch_loss, num_right

NUM_EXAMPLES = 5


def vectors(texts_each: int) -> Any:
    return torch.randn(NUM_EXAMPLES * texts_each, 8, generator=torch.Generator().manual_seed(3))


def labels(texts: list[list[int]], scores: list[float] | None = None) -> Any:
    """Of examples with these numbers of texts."""
    rows = [
        [number, place, text, scores[number] if scores else nan]
        for number, own in enumerate(texts)
        for place, text in enumerate(own)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def columns(rows: Any, texts_each: int) -> list[Any]:
    """As sentence-transformers takes them: all first texts, all second ones, …"""
    return [rows[place::texts_each] for place in range(texts_each)]


@pytest.mark.parametrize("texts_each", [2, 3])
def test_texts_that_belong_together_are_ranked_as_by_the_library(texts_each: int) -> None:
    losses = pytest.importorskip("sentence_transformers.losses")
    rows = vectors(texts_each)
    numbers = torch.arange(NUM_EXAMPLES * texts_each).reshape(NUM_EXAMPLES, texts_each).tolist()
    library = losses.MultipleNegativesRankingLoss(None, scale=SCALE)
    expected = library.compute_loss_from_embeddings(columns(rows, texts_each), None)
    assert batch_loss(rows, labels(numbers)).item() == pytest.approx(expected.item(), abs=1e-5)


def test_pairs_with_a_number_are_ordered_as_by_the_library() -> None:
    losses = pytest.importorskip("sentence_transformers.losses")
    rows, scores = vectors(2), [0.1, 0.5, 0.5, 0.9, 0.0]
    library = losses.CoSENTLoss(None, scale=SCALE)
    expected = library.compute_loss_from_embeddings(columns(rows, 2), torch.tensor(scores))
    own = labels([[2 * number, 2 * number + 1] for number in range(NUM_EXAMPLES)], scores)
    assert batch_loss(rows, own).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("second", "reason"),
    [([2, 1], "the same partner"), ([0, 3], "a partner of the same first text"), ([2, 0], "the first text itself")],
)
def test_what_belongs_to_a_text_is_no_negative_of_it(second: list[int], reason: str) -> None:
    """Of the first example's choice nothing is left but its partner."""
    rows = torch.randn(4, 8, generator=torch.Generator().manual_seed(3))
    rows[3] = rows[1] if second[1] == 1 else rows[3]
    alone = batch_loss(rows, labels([[0, 1], second]))
    of_second = batch_loss(rows, labels([[10, 11], [12, 13]])) if second[1] == 0 else None
    choice = torch.nn.functional.cosine_similarity(rows[2], rows[[1, 3]]) * SCALE
    expected = 0.0 if second != [2, 0] else torch.nn.functional.cross_entropy(choice, torch.tensor(1)).item() / 2
    assert alone.item() == pytest.approx(expected, abs=1e-6), reason
    assert of_second is None or of_second > alone


def test_a_negative_that_is_another_texts_partner_stays_one() -> None:
    rows = torch.randn(6, 8, generator=torch.Generator().manual_seed(3))
    apart = batch_loss(rows, labels([[0, 1, 2], [3, 4, 5]]))
    assert batch_loss(rows, labels([[0, 1, 4], [3, 4, 5]])) < apart  # the second one's own partner is none for it
    assert batch_loss(rows, labels([[0, 1, 1], [3, 4, 5]])) < apart  # and a partner is no negative of its own text


def test_a_batch_of_both_kinds_has_the_mean_over_its_examples() -> None:
    rows = vectors(2)
    scored, paired = labels([[0, 1], [2, 3]], [0.2, 0.8]), labels([[4, 5], [6, 7], [8, 9]])
    both = torch.cat([scored, paired])
    both[4:, 0] += 2
    expected = (2 * batch_loss(rows[:4], scored) + 3 * batch_loss(rows[4:], paired)) / 5
    assert batch_loss(rows, both).item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_progress_bar_counts_partners_found_and_pairs_in_order() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    assert num_right(rows, labels([[0, 1], [2, 3]])) == (2, 2)
    assert num_right(rows[[0, 3, 2, 1]], labels([[0, 1], [2, 3]])) == (0, 2)
    angled = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.0], [0.5, 1.0]])
    assert num_right(angled, labels([[0, 1], [2, 3]], [0.9, 0.1])) == (1, 1)
    assert num_right(angled, labels([[0, 1], [2, 3]], [0.1, 0.9])) == (0, 1)
    assert num_right(angled, labels([[0, 1], [2, 3]], [0.5, 0.5])) == (0, 1)

"""What the training of vectors lowers: one loss for texts that belong together, another for pairs with a number.

Both are those of sentence-transformers with its own scale, over the examples of one update.
"""

from __future__ import annotations

import torch
from torch.nn import functional

SCALE = 20.0
"""What cosines are multiplied by before a softmax; the inverse of a temperature of 0.05."""
EXAMPLE, PLACE, TEXT, SCORE = range(4)
"""Columns of a batch's labels: number of the example, place of the row in it (0: the first text), number of the text, and how
alike the texts of the example are, which is NaN where they belong together."""


def batch_loss(vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over the examples of a batch.

    Args:
        vectors: of all rows; those of one example follow each other. (rows, dimensions)
        labels: (rows, 4).
    """
    units = functional.normalize(vectors.float(), dim=-1)
    is_scored = ~labels[:, SCORE].isnan()
    parts = [
        (loss(units[rows], labels[rows]), int((labels[rows, PLACE] == 0).sum()))
        for loss, rows in ((ranking_loss, ~is_scored), (cosent_loss, is_scored))
        if rows.any()
    ]
    return torch.stack([loss * count for loss, count in parts]).sum() / sum(count for _, count in parts)


def ranking_loss(units: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Multiple negatives ranking (Henderson et al. 2017, arXiv:1705.00652): the cross entropy of each first text choosing its
    partner among those of all examples in the batch, and among their negatives.

    Source: sentence_transformers.losses.MultipleNegativesRankingLoss, but that what is no negative is left out.
    """
    return functional.cross_entropy(*choices(units, labels))


def choices(units: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The scaled cosines of each first text with all others of the batch, (examples, others), and the number of its partner.

    Those that are no negatives of it are -inf: its partner or itself once more, and the partner of an equal first text.
    """
    is_first, is_partner = labels[:, PLACE] == 0, labels[:, PLACE] == 1
    others = ~is_first
    first_texts, other_texts = labels[is_first, TEXT], labels[others, TEXT]
    partners = torch.nonzero(is_partner[others]).flatten()  # (examples,): one for each first text, in the same order
    # the number of the first text that each other one belongs to; of a negative none
    places = torch.searchsorted(labels[is_first, EXAMPLE], labels[others, EXAMPLE])  # examples are numbered as they come
    owners = torch.where(is_partner[others], first_texts[places], -1)
    is_no_negative = (
        (other_texts[None, :] == other_texts[partners][:, None])
        | (other_texts[None, :] == first_texts[:, None])
        | (owners[None, :] == first_texts[:, None])
    )
    is_no_negative[torch.arange(len(partners), device=partners.device), partners] = False
    cosines = units[is_first] @ units[others].T
    return (SCALE * cosines).masked_fill(is_no_negative, -torch.inf), partners


def cosent_loss(units: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """CoSENT (Su 2022): of each two pairs the one with the larger number shall have the larger cosine.

    Source: sentence_transformers.losses.CoSENTLoss.
    """
    cosines, scores = pair_cosines(units, labels)
    margins = SCALE * (cosines[:, None] - cosines[None, :])
    is_wrong_order = scores[:, None] < scores[None, :]
    zero = torch.zeros(1, device=margins.device, dtype=margins.dtype)
    return torch.logsumexp(torch.cat([zero, margins[is_wrong_order]]), dim=0)


def pair_cosines(units: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The cosine and the number of each example's first two texts; (examples,) each."""
    is_first = labels[:, PLACE] == 0
    return (units[is_first] * units[labels[:, PLACE] == 1]).sum(-1), labels[is_first, SCORE]


def num_right(vectors: torch.Tensor, labels: torch.Tensor) -> tuple[int, int]:
    """How many of how many first texts have their partner nearest; of pairs with a number, how many of two are in order."""
    units = functional.normalize(vectors.float(), dim=-1)
    is_scored = ~labels[:, SCORE].isnan()
    right = total = 0
    if (~is_scored).any():
        scores, partners = choices(units[~is_scored], labels[~is_scored])
        right, total = int((scores.argmax(-1) == partners).sum()), len(partners)
    if is_scored.any():
        cosines, scores = pair_cosines(units[is_scored], labels[is_scored])
        comparable = scores[:, None] < scores[None, :]
        right += int((comparable & (cosines[:, None] < cosines[None, :])).sum())
        total += int(comparable.sum())
    return right, max(1, total)

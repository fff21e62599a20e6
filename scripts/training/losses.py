"""Losses of the heads that transformers does not train as we label them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported when a loss is computed: the tasks name these, and judging a published graph needs no torch
    import torch

IGNORED = -1.0
"""Label of a token that takes no part in the loss."""


def span_loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of start and end against what the annotators chose, by the share of them who chose it.

    Args:
        outputs: of a question answering model: `start_logits` and `end_logits` (rows, tokens), padding included.
        labels: (rows, tokens, 2) shares that sum to 1 over the tokens; `IGNORED` at padding.
    """
    import torch

    logits = torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1).float()  # (rows, tokens, 2)
    padding = labels == IGNORED
    log_probabilities = logits.masked_fill(padding, -1e4).log_softmax(dim=1)
    return -(labels.masked_fill(padding, 0.0) * log_probabilities).sum(dim=1).mean()


def sentence_loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of sentences, each scored by the mean logit of its tokens, averaged over the sentences.

    Args:
        outputs: of a token classification model with one label: `logits` (rows, tokens, 1).
        labels: (rows, tokens, 2): the number of the token's sentence in the batch, and what is wanted of the sentence,
            between 0 and 1; `IGNORED` at padding.
    """
    import torch

    inside = labels[..., 0] != IGNORED
    numbers = labels[..., 0][inside].long()
    logits = outputs["logits"][..., 0].float()[inside]
    counts = torch.bincount(numbers)
    means = torch.zeros(len(counts)).to(logits).index_add(0, numbers, logits) / counts
    wanted = torch.zeros_like(means)
    wanted[numbers] = labels[..., 1][inside].to(wanted)
    return torch.nn.functional.binary_cross_entropy_with_logits(means, wanted)

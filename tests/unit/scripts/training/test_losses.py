"""Losses against the same thing computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.training.losses import IGNORED, sentence_loss, span_loss


def test_span_loss_is_the_cross_entropy_against_the_annotators_shares() -> None:
    starts, ends = torch.tensor([[1.0, 2.0, 0.0, 99.0]]), torch.tensor([[0.0, 1.0, 3.0, 99.0]])
    labels = torch.tensor([[[0.0, 0.0], [0.75, 0.0], [0.25, 1.0], [IGNORED, IGNORED]]])
    loss = span_loss({"start_logits": starts, "end_logits": ends}, labels)

    def log_softmax(values: list[float]) -> np.ndarray:
        array = np.array(values)
        return np.asarray(array - np.log(np.exp(array).sum()))

    wanted_start = -(0.75 * log_softmax([1, 2, 0])[1] + 0.25 * log_softmax([1, 2, 0])[2])
    wanted_end = -log_softmax([0, 1, 3])[2]
    assert loss.item() == pytest.approx((wanted_start + wanted_end) / 2, abs=1e-5)


def test_a_shares_loss_is_least_where_the_model_says_the_same() -> None:
    labels = torch.tensor([[[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]]])

    def loss(starts: list[float]) -> float:
        return span_loss({"start_logits": torch.tensor([starts]), "end_logits": torch.zeros(1, 3)}, labels).item()

    assert loss([5.0, 5.0, -5.0]) < loss([9.0, 1.0, -5.0])


def test_a_sentence_is_scored_by_the_mean_of_its_tokens_and_padding_takes_no_part() -> None:
    logits = torch.tensor([[[2.0], [4.0], [-1.0]], [[0.5], [-9.0], [9.0]]], requires_grad=True)
    nothing = [IGNORED, IGNORED]
    labels = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], [[2.0, 0.25], nothing, nothing]])
    loss = sentence_loss({"logits": logits}, labels)

    def entropy(logit: float, label: float) -> float:
        p = 1 / (1 + np.exp(-logit))
        return float(-(label * np.log(p) + (1 - label) * np.log(1 - p)))

    assert loss.item() == pytest.approx((entropy(3, 1) + entropy(-1, 0) + entropy(0.5, 0.25)) / 3, abs=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[..., 0] != 0).tolist() == [[True, True, True], [True, False, False]]

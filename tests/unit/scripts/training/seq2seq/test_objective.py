"""The loss of written texts: of the targets' tokens alone, given those before them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from app.core.errors import InvalidSettings
from scripts.training.recipe import Recipe
from scripts.training.seq2seq.batches import IGNORED_LABEL
from scripts.training.seq2seq.objective import Seq2SeqObjective, num_correct, shifted, token_loss

LABELS = torch.tensor([[5, 6, 1, IGNORED_LABEL], [7, 1, IGNORED_LABEL, IGNORED_LABEL]])


def test_the_decoder_reads_the_start_token_and_each_label_but_the_last() -> None:
    assert shifted(LABELS, start=9, pad=0).tolist() == [[9, 5, 6, 1], [9, 7, 1, 0]]


def test_padding_changes_no_loss() -> None:
    logits = torch.randn(2, 4, 11, generator=torch.Generator().manual_seed(0))
    losses = -logits.log_softmax(-1).gather(-1, LABELS.clamp(min=0)[..., None])[..., 0]
    expected = losses[LABELS != IGNORED_LABEL].mean()
    assert torch.isclose(token_loss(logits, LABELS), expected)
    assert not torch.isclose(token_loss(logits, LABELS, smoothing=0.1), expected)


def test_tokens_that_come_first_are_counted_without_padding() -> None:
    logits = torch.nn.functional.one_hot(LABELS.clamp(min=0), 11).float()
    logits[0, 0] = logits[0, 0].roll(1)
    assert num_correct(logits, LABELS) == (4, 5)


@pytest.mark.parametrize(
    ("key", "value"), [("class_weights", "balanced"), ("teacher", "x"), ("micro_batch", 4), ("lora_rank", 8), ("freeze", 2)]
)
def test_what_is_for_heads_of_encoders_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match=f"{key} is {value}, but a model that writes has no such thing"):
        Seq2SeqObjective(replace(Recipe(), **{key: value}))  # type: ignore[arg-type]

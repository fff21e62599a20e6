"""The loss of written texts: of the targets' tokens alone, given those before them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from app.core.errors import InvalidSettings
from scripts.tasks.spec import TrainingRow
from scripts.training.recipe import Recipe
from scripts.training.seq2seq.batches import IGNORED_LABEL, collator_of
from scripts.training.seq2seq.objective import Seq2SeqObjective, likelihood, shifted, token_loss
from tests.support.tiny_causal import model_of, rows_of

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
    assert Seq2SeqObjective(Recipe()).num_correct(SimpleNamespace(logits=logits), LABELS) == (4, 5)


@pytest.mark.parametrize(("key", "value"), [("class_weights", "balanced"), ("teacher", "x"), ("micro_batch", 4), ("freeze", 2)])
def test_what_is_for_heads_of_encoders_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match=f"{key} is {value}, but a model that writes has no such thing"):
        Seq2SeqObjective(replace(Recipe(), **{key: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_of_a_model_without_an_encoder_completions_alone_are_learnt(family: str) -> None:
    model = model_of(family)
    rows = [TrainingRow(prompt, [5, 9, 1][:count]) for prompt, count in zip(rows_of([4, 11, 2]), (3, 2, 1), strict=True)]
    losses = []
    for row in rows:  # the loss of transformers itself, of each row alone
        ids = torch.tensor([[*row.row.input_ids, *row.label]])
        labels = torch.tensor([[-100] * row.row.num_tokens + list(row.label)])
        with torch.no_grad():
            losses += [float(model(input_ids=ids, labels=labels).loss)] * len(row.label)
    expected = sum(losses) / len(losses)
    measured = likelihood(model, rows)
    assert (measured.num_tokens, round(measured.mean_loss, 4)) == (6, round(expected, 4))
    assert measured.perplexity == pytest.approx(torch.tensor(expected).exp().item(), rel=1e-3)
    loss, _ = Seq2SeqObjective(Recipe())(model, collator_of(model)(rows))
    assert loss.item() == pytest.approx(expected, rel=1e-4)

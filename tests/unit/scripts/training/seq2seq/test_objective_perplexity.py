"""Perplexity of held-out targets, counted honestly."""

from __future__ import annotations

import math

import pytest

from app.tasks.generation import SourceText
from scripts.export.formatting import describe_perplexity
from scripts.tasks.text_generation import SPEC as TASK
from scripts.training.data import Example
from scripts.training.seq2seq.models import decoder_of
from scripts.training.seq2seq.objective import mean_token_loss, measure_perplexity
from scripts.training.seq2seq.tokenizer import PairTokenizer
from tests.support.tiny_causal import model_of
from tests.support.tiny_writer import unigram_json


def test_tokens_are_counted_with_the_ends_and_bytes_are_those_of_the_targets() -> None:
    model = model_of("llama").train()
    tokenizer = PairTokenizer(unigram_json(), 64, decoder_of(model, max_length=64))
    examples = [Example(SourceText("the film"), target, "a", "a:1") for target in (" was", " was good")]
    model.train()
    figures = measure_perplexity(TASK, model, tokenizer, {}, examples)
    assert model.training
    loss = mean_token_loss(model, TASK.training_rows(examples, tokenizer, {}))
    assert (figures["tokens"], figures["rows"]) == (5, 2)
    assert figures["perplexity"] == pytest.approx(math.exp(loss), rel=1e-3)
    assert figures["bits_per_byte"] == pytest.approx(loss * 5 / math.log(2) / len(" was was good"), rel=1e-3)
    assert describe_perplexity({**figures, "before": 9.5}).startswith("perplexity of the targets ")
    assert "9.5 before training: 5 tokens of 2 held-out rows, ends included" in describe_perplexity({**figures, "before": 9.5})
    assert measure_perplexity(TASK, model, tokenizer, {}, []) == {}

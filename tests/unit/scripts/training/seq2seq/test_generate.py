"""What the torch model writes: as its own forward says, up to the end of the text, whatever the checkpoint's search is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from app.core.sequences import SamplingParams
from app.core.types import Row
from app.tasks.generation import SourceText
from app.tasks.tokenizer import Tokenizer
from scripts.tasks.text2text_generation import SPEC as TASK
from scripts.training.data import Example
from scripts.training.seq2seq.generate import GenerateRunner, make_judge, written_reference
from scripts.training.seq2seq.models import decoder_of
from scripts.training.seq2seq.tokenizer import PairTokenizer
from tests.support.tiny_causal import continued, model_of, rows_of
from tests.support.tiny_writer import FAMILIES, MAX_POSITIONS, PAD, TEXTS, unigram_json

VOCABULARY_SIZE = Tokenizer(unigram_json(), MAX_POSITIONS).vocabulary_size()

LENGTH = 12


@pytest.fixture(scope="module")
def model() -> Any:
    """With random weights that are large enough for its texts to vary."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FAMILIES["t5"](VOCABULARY_SIZE)
        for weights in model.parameters():
            torch.nn.init.normal_(weights, std=0.6)
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer(model: Any) -> PairTokenizer:
    return PairTokenizer(unigram_json(), MAX_POSITIONS, decoder_of(model))


def rows(tokenizer: PairTokenizer) -> list[Row]:
    return [Row(window.input_ids, window.token_type_ids) for (window,) in tokenizer.windows(TEXTS)]


def greedy(model: Any, row: Row, length: int = LENGTH) -> list[int]:
    """The likeliest token, again and again, by the model's forward alone."""
    ids, written = torch.tensor([list(row.input_ids)]), [PAD]
    with torch.no_grad():
        for _ in range(length):
            written.append(int(model(input_ids=ids, decoder_input_ids=torch.tensor([written])).logits[0, -1].argmax()))
    return written[1:]


def params(*ends: int) -> SamplingParams:
    return SamplingParams(max_new_tokens=LENGTH, decoder_input_ids=(PAD,), eos_token_ids=ends or (VOCABULARY_SIZE - 1,))


def test_a_batch_is_written_as_each_row_alone_up_to_the_end(model: Any, tokenizer: PairTokenizer) -> None:
    whole = [greedy(model, row) for row in rows(tokenizer)]
    end = next(token for token in whole[0][2:] if token not in whole[0][:2])
    outputs = GenerateRunner(model, params(end), tokenizer).run_rows(rows(tokenizer))
    for output, tokens in zip(outputs, whole, strict=True):
        expected = tokens[: tokens.index(end) + 1] if end in tokens else tokens
        assert output["token_ids"].tolist() == expected
        assert output["sequence_index"].tolist() == [0] * len(expected)
        assert output["token_ids"].dtype == np.int64
    assert len({tuple(tokens) for tokens in whole}) > 1
    assert len(outputs[0]["token_ids"]) < LENGTH


def test_the_checkpoints_own_search_counts_for_nothing(
    model: Any, tokenizer: PairTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.generation_config, "num_beams", 3)
    monkeypatch.setattr(model.generation_config, "min_length", 15)
    (output,) = GenerateRunner(model, params(), tokenizer).run_rows(rows(tokenizer)[:1])
    assert output["token_ids"].tolist() == greedy(model, rows(tokenizer)[0])


def test_answers_come_through_the_production_task(model: Any, tokenizer: PairTokenizer) -> None:
    examples = [Example(SourceText(text), text, "a", f"a:{number}") for number, text in enumerate(TEXTS)]
    reference = written_reference(TASK, model, tokenizer, {}, examples, max_new_tokens=4)
    expected = [tokenizer.decode(greedy(model, row, 4), skip_special_tokens=True) for row in rows(tokenizer)]
    assert [answer.text for answer in reference.predictions.answers] == expected
    figures = make_judge(TASK, tokenizer, {}, examples)(model)
    assert figures.keys() == {"exact_match", "rougeLsum", "mean_chrf"}
    assert 0 <= figures["mean_chrf"] <= 100


@pytest.mark.parametrize(("family", "changes"), [("llama", {}), ("gpt2", {}), ("llama", {"repetition_penalty": 1.5})])
def test_texts_of_any_length_are_continued_as_each_alone_as_far_as_there_is_room(family: str, changes: Any) -> None:
    causal, length = model_of(family), 10
    tokenizer = PairTokenizer(unigram_json(), 64, decoder_of(causal, max_length=64))
    sampling = SamplingParams(max_new_tokens=length, eos_token_ids=(1,), **changes)
    prompts = rows_of([3, 17, 9, 60])
    outputs = GenerateRunner(causal, sampling, tokenizer).run_rows(prompts)
    for row, output in zip(prompts, outputs, strict=True):
        (expected,) = continued(causal, row, replace(sampling, max_new_tokens=min(length, 64 - row.num_tokens)))
        assert output["token_ids"].tolist() == expected

"""The tokenizer of pairs: what a decoder is to write for a target."""

from __future__ import annotations

import pytest

from app.core.manifest import Decoder
from app.core.types import Row
from app.tasks.extractive_summarization.task import SummaryItem
from scripts.tasks.abstractive_summarization import SPEC as SUMMARIZATION
from scripts.training.data import Example
from scripts.training.seq2seq.tokenizer import PairTokenizer
from tests.support.tiny_writer import EOS, UNK, unigram_json

DECODER = Decoder(
    file="decoder.onnx", num_layers=1, num_heads=1, head_size=8, vocab_size=70, max_length=12, eos_token_ids=(EOS,)
)
TEXT = "the film was good."


def test_a_target_ends_as_a_source_does_behind_its_language() -> None:
    tokenizer = PairTokenizer(unigram_json(), 32, DECODER)
    ((window,),) = tokenizer.windows([TEXT])
    assert tokenizer.labels([TEXT]) == [list(window.input_ids)]
    assert tokenizer.labels([TEXT], first=[9]) == [[9, *window.input_ids]]
    assert tokenizer.labels([TEXT])[0][-1] == EOS


@pytest.mark.parametrize(("asked", "limit"), [(0, 11), (4, 4), (400, 11)])
def test_a_longer_target_is_cut_and_does_not_end(asked: int, limit: int) -> None:
    tokenizer = PairTokenizer(unigram_json(), 32, DECODER, max_target_tokens=asked)
    (labels,) = tokenizer.labels([" ".join([TEXT] * 5)])
    assert len(labels) == limit
    assert labels[-1] != EOS


@pytest.mark.parametrize(("asked", "limit"), [(0, 12), (8, 8), (400, 12)])
def test_sources_may_be_shorter_in_training_than_where_it_is_served(asked: int, limit: int) -> None:
    tokenizer = PairTokenizer(unigram_json(), 12, DECODER, max_source_tokens=asked)
    example = Example(SummaryItem(" ".join([TEXT] * 9)), TEXT, "a", "a:1")
    (row,) = SUMMARIZATION.training_rows([example], tokenizer, {})
    assert row.row.num_tokens == limit
    assert row.row.input_ids[-1] == EOS
    assert tokenizer.max_tokens == 12
    assert row.label == tokenizer.labels([TEXT])[0]


def test_targets_may_have_a_vocabulary_of_their_own() -> None:
    other = unigram_json().replace('"▁film"', '"▁kino"')
    tokenizer = PairTokenizer(unigram_json(), 32, DECODER, other)
    assert tokenizer.target is not None
    assert tokenizer.target.decode(tokenizer.labels(["kino"])[0], skip_special_tokens=True) == "kino"
    assert tokenizer.windows(["kino"]) != tokenizer.windows(["film"])


def test_tokens_that_the_model_lacks_are_read_as_unknown() -> None:
    tokenizer = PairTokenizer(unigram_json(), 32, DECODER, known=(20, UNK))
    assert list(tokenizer.read([1, 19, 20, 21])) == [1, 19, UNK, UNK]
    assert tokenizer.read_row(Row([30, 1], [0, 0])) == Row([UNK, 1], [0, 0])
    assert max(tokenizer.labels([TEXT])[0]) < 20

"""A model from nothing: a vocabulary that is learnt from the rows, and a small transformer of the recipe's sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from app.core.errors import InvalidSettings
from app.tasks.tokenizer import Tokenizer
from scripts.training.recipe import Recipe
from scripts.training.seq2seq.new_model import END, PAD, learn_vocabulary, new_model, tokenizer_files

TEXTS = [
    f"{who} {verb} {what} {number}."
    for number, who in enumerate(("Anna", "The old man", "Ein Hund", "Zwei Kinder"))
    for verb in ("sieht", "sees", "läuft über", "finds")
    for what in ("the bridge", "die Straße", "einen Ball", "a red house")
]
SMALL = replace(Recipe(), new_layers=1, new_width=16, new_inner=32, new_heads=2)


@pytest.fixture(scope="module")
def definition() -> str:
    return learn_vocabulary(TEXTS, 120)


def test_a_vocabulary_reads_and_writes_what_it_was_learnt_from(definition: str) -> None:
    tokenizer = Tokenizer(definition, 64)
    assert tokenizer.vocabulary_size() <= 120
    for text in TEXTS:
        (window,) = tokenizer.windows([f" {text.replace(' ', '  ')} "])[0]
        assert window.input_ids[-1] == tokenizer.token_id(END)
        assert tokenizer.decode(window.input_ids, skip_special_tokens=True) == text
        assert tokenizer.unknown_id() not in window.input_ids


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="at least 32 are needed"):
        learn_vocabulary(["a", "b a"], 500)


def test_a_model_has_the_sizes_of_the_recipe_and_one_table_of_tokens(definition: str) -> None:
    torch.manual_seed(0)
    model = new_model(replace(SMALL, hidden_dropout=0.3), definition)
    config = model.config
    assert (config.d_model, config.encoder_layers, config.decoder_layers, config.encoder_ffn_dim) == (16, 1, 1, 32)
    assert (config.encoder_attention_heads, config.decoder_attention_heads, config.dropout) == (2, 2, 0.3)
    assert config.vocab_size == Tokenizer(definition, 64).vocabulary_size()
    assert model.lm_head.weight is model.model.shared.weight is model.model.decoder.embed_tokens.weight


def test_sizes_that_do_not_fit_are_refused(definition: str) -> None:
    with pytest.raises(InvalidSettings, match="multiple of new_heads, which is 3"):
        new_model(replace(SMALL, new_heads=3), definition)


def test_transformers_reads_the_tokenizer_from_its_files(definition: str, tmp_path: Path) -> None:
    new_model(SMALL, definition).save_pretrained(tmp_path)
    for name, text in tokenizer_files(definition).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.is_fast
    assert tokenizer(TEXTS[0]).input_ids == list(Tokenizer(definition, 64).windows([TEXTS[0]])[0][0].input_ids)
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, END)

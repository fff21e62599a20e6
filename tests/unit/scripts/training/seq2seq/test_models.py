"""What a training of a model that writes begins with: a checkpoint, a pair of encoders, or nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer as Definition

from app.core.errors import InvalidSettings
from app.core.types import Row
from app.tasks.generation import SourceText
from scripts.tasks.spec import TrainingRow
from scripts.training.data import Example
from scripts.training.recipe import Recipe
from scripts.training.seq2seq import models
from scripts.training.seq2seq.batches import Seq2SeqCollator
from scripts.training.seq2seq.objective import Seq2SeqObjective, mean_token_loss
from tests.support.tiny_causal import save_checkpoint
from tests.support.tiny_model import VOCABULARY
from tests.support.tiny_writer import EOS, FAMILIES, MAX_POSITIONS, PAD, TEXTS, unigram_json

RECIPE = replace(Recipe(), task="translation", base_model="new", hidden_dropout=0.2)
TINY = replace(RECIPE, new_layers=1, new_width=16, new_inner=32, new_heads=2, new_vocabulary=200)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Definition.from_str(unigram_json()), pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=MAX_POSITIONS,
    )  # fmt: skip
    FAMILIES["t5"](len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_nobody_is_given_a_base_model_that_was_not_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"which model shall a training for translation begin with\?.*`new`"):
        models.find_start("auto", "translation", tmp_path)


def test_a_checkpoint_is_read_with_its_tokenizer_and_the_recipes_dropout(checkpoint: Path, tmp_path: Path) -> None:
    start = models.find_start(str(checkpoint), "translation", tmp_path)
    model = models.load(RECIPE, start, start.tokenizer)
    tokenizer = models.make_tokenizer(RECIPE, model, start, start.tokenizer)
    assert model.config.dropout_rate == 0.2
    assert (tokenizer.max_tokens, tokenizer.decoder.start_token_id, tokenizer.decoder.eos_token_ids) == (
        MAX_POSITIONS,
        PAD,
        (EOS,),
    )
    files = models.checkpoint_files(start, start.tokenizer)
    assert {"tokenizer.json", "tokenizer_config.json"} <= files.keys()


def test_two_encoders_are_put_together_and_learn(encoder: Path, tmp_path: Path) -> None:
    start = models.find_start(str(encoder), "translation", tmp_path)
    model = models.load(RECIPE, start, start.tokenizer)
    assert model.config.decoder.add_cross_attention
    assert model.config.decoder.hidden_dropout_prob == 0.2
    tokenizer = models.make_tokenizer(RECIPE, model, start, start.tokenizer)
    assert tokenizer.decoder.eos_token_ids == (model.config.eos_token_id,)
    row = TrainingRow(Row([2, 5, 3], [0] * 3), [5, 6, 3])
    before = mean_token_loss(model, [row])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss, _ = Seq2SeqObjective(Recipe())(model, Seq2SeqCollator(0)([row]))
    loss.backward()
    optimizer.step()
    assert mean_token_loss(model, [row]) < before


def test_a_new_model_has_a_vocabulary_of_sources_and_targets(tmp_path: Path) -> None:
    start = models.find_start("new", "translation", tmp_path)
    assert start.is_new
    examples = [Example(SourceText(f"{text} {number}"), text.upper(), "a", "a:1") for number in range(9) for text in TEXTS]
    definition = models.vocabulary_of(TINY, examples)
    first, second = (models.load(TINY, start, definition) for _ in range(2))
    assert torch.equal(first.model.shared.weight, second.model.shared.weight)  # of the recipe's seed
    other = models.load(replace(TINY, seed=14), start, definition)
    assert not torch.equal(first.model.shared.weight, other.model.shared.weight)
    tokenizer = models.make_tokenizer(TINY, first, start, definition)
    assert (tokenizer.max_tokens, tokenizer.decoder.max_length) == (512, 512)
    assert tokenizer.decoder.generation == {"bad_words_ids": [[first.config.pad_token_id]]}
    assert tokenizer.unknown_id() not in tokenizer.labels(["THE FILM WAS GOOD."])[0]


def test_more_than_the_model_writes_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    start = models.find_start("new", "translation", tmp_path)
    definition = (checkpoint / "tokenizer.json").read_text(encoding="utf-8")
    model = models.load(TINY, start, definition)
    with pytest.raises(InvalidSettings, match="max_target_tokens is 512, but the base model writes at most 511"):
        models.make_tokenizer(replace(TINY, max_target_tokens=512), model, start, definition)


def test_what_cannot_write_is_refused_in_a_sentence(tmp_path: Path) -> None:
    transformers.RobertaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2).save_pretrained(tmp_path)
    base = models.BaseModel(str(tmp_path), "roberta")
    with pytest.raises(InvalidSettings, match=r"\(roberta\) does not write; of encoders, only a pair of BERT's"):
        models.load(RECIPE, models.Start(base, ""), "")


def test_a_model_that_continues_texts_begins_with_one_that_does(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("auto", "new", "packaged"):
        with pytest.raises(
            InvalidSettings, match=r"text-generation begin with\?.*continues texts, of these families: gpt2, llama"
        ):
            models.find_start(name, "text-generation", tmp_path)
    recipe = replace(Recipe(), task="text-generation", hidden_dropout=0.2, max_tokens=40)
    start = models.find_start(str(save_checkpoint("gpt2", tmp_path / "gpt2")), "text-generation", tmp_path)
    model = models.load(recipe, start, start.tokenizer)
    assert (model.config.resid_pdrop, model.config.embd_pdrop) == (0.2, 0.2)
    tokenizer = models.make_tokenizer(recipe, model, start, start.tokenizer)
    decoder = tokenizer.decoder
    assert (tokenizer.max_tokens, decoder.max_length, decoder.has_encoder, decoder.eos_token_ids) == (40, 40, False, (EOS,))


def test_a_base_model_of_the_other_kind_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    causal = models.find_start(str(save_checkpoint("llama", tmp_path / "llama")), "translation", tmp_path)
    with pytest.raises(InvalidSettings, match=r"llama \(llama\) continues texts: say --task text-generation"):
        models.load(RECIPE, causal, causal.tokenizer)
    start = models.find_start(str(checkpoint), "text-generation", tmp_path)
    with pytest.raises(InvalidSettings, match=r"is a model of t5; of models that continue a text, those of gpt2"):
        models.load(replace(Recipe(), task="text-generation"), start, start.tokenizer)

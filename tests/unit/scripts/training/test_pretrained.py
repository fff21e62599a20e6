"""Weights, tokenizer and length limit of a base model, or a clear word about what is wrong with it."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
import transformers
from safetensors.torch import load_file, save_file

from app.core.errors import InvalidSettings
from app.tasks.tokenizer import Tokenizer
from scripts.export.tokenizer_definition import definition_of
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training.pretrained import (
    BaseModel,
    choose_max_tokens,
    fast_tokenizer,
    find_start,
    fitting_window,
    load_finished,
    load_model,
    longest_input,
    resolve,
)
from scripts.training.recipe import Recipe
from tests.support.tiny_model import tokenizer_json

TASK = TextClassificationTraining()
OPTIONS = {"labels": ["bad", "good"], "problem_type": "single_label_classification"}


def base(folder: Path) -> BaseModel:
    return BaseModel(str(folder), folder.name)


def load_tokenizer(source: BaseModel) -> str:
    return definition_of(fast_tokenizer(source), source.location)


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base_folder, tmp_path / "base"))


def test_the_head_is_new_and_the_body_is_that_of_the_base(base_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(3)
    model = load_model(Recipe(), TASK, OPTIONS, base(base_folder))
    assert model.config.id2label == {0: "bad", 1: "good"}
    weights = load_file(base_folder / "model.safetensors")
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, weights["embeddings.word_embeddings.weight"])
    assert capfd.readouterr() == ("", "")


def test_the_same_seed_makes_the_same_head(base_folder: Path) -> None:
    heads = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        heads.append(load_model(Recipe(), TASK, OPTIONS, base(base_folder)).classifier.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_dropout_is_the_recipe_s(base_folder: Path) -> None:
    model = load_model(Recipe(hidden_dropout=0.2, attention_dropout=0.3), TASK, OPTIONS, base(base_folder))
    assert (model.config.hidden_dropout_prob, model.config.attention_probs_dropout_prob) == (0.2, 0.3)
    assert model.dropout.p == 0.2
    plain = load_model(Recipe(hidden_dropout=0.0), TASK, OPTIONS, base(base_folder))
    assert {module.p for module in plain.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}


def test_dropout_reaches_models_that_call_it_otherwise(tiny_model: Any, tmp_path: Path) -> None:
    tiny_model("DistilBert").distilbert.save_pretrained(tmp_path)
    model = load_model(Recipe(hidden_dropout=0.2), TASK, OPTIONS, base(tmp_path))
    assert (model.config.dropout, model.config.attention_dropout) == (0.2, 0.0)


def test_a_classifier_of_other_labels_gets_a_new_head(tiny_model: Any, tmp_path: Path) -> None:
    tiny_model("Bert").save_pretrained(tmp_path)
    assert load_model(Recipe(), TASK, OPTIONS, base(tmp_path)).classifier.out_features == 2


def test_weights_that_are_not_all_there_are_refused(copy: Path) -> None:
    kept = {name: entry for name, entry in load_file(copy / "model.safetensors").items() if "layer.1" not in name}
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(InvalidSettings, match=r"do not fit BertForSequenceClassification: 16 are missing"):
        load_model(Recipe(), TASK, OPTIONS, base(copy))


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "vocab_size": 99}))
    with pytest.raises(InvalidSettings, match=r"1 have another shape.*word_embeddings"):
        load_model(Recipe(), TASK, OPTIONS, base(copy))


def test_code_that_comes_with_a_model_never_runs(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": auto}))
    (copy / "evil.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(InvalidSettings, match="cannot be loaded"):
        load_model(Recipe(), TASK, OPTIONS, base(copy))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=f"the base model {tmp_path} cannot be loaded"):
        load_model(Recipe(), TASK, OPTIONS, base(tmp_path))


def test_a_path_that_is_no_folder_is_refused_by_name(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    (copy / "large").mkdir()
    with pytest.raises(InvalidSettings, match=r"the teacher base/config\.json is a file; name the folder that it lies in"):
        resolve("base/config.json", "teacher")
    with pytest.raises(InvalidSettings, match=r"the base model folder base/larger does not exist; did you mean base/large\?"):
        resolve("base/larger")


def test_a_finished_model_must_have_the_labels_of_the_data(base_folder: Path, tmp_path: Path) -> None:
    load_model(Recipe(), TASK, OPTIONS, base(base_folder)).save_pretrained(tmp_path)
    assert load_finished(TASK, OPTIONS, tmp_path).config.num_labels == 2
    with pytest.raises(InvalidSettings, match="another id2label"):
        load_finished(TASK, {**OPTIONS, "labels": ["bad", "fine"]}, tmp_path)


def test_the_tokenizer_is_the_base_model_s_own(base_folder: Path) -> None:
    loaded, original = (Tokenizer(text, 32) for text in (load_tokenizer(base(base_folder)), tokenizer_json()))
    for text in ("A good film.", ("a", "b"), "films unheard of"):
        assert loaded.windows([text])[0][0].input_ids == original.windows([text])[0][0].input_ids


def test_a_vocabulary_alone_is_enough_for_a_fast_tokenizer(copy: Path) -> None:
    vocabulary = json.loads((copy / "tokenizer.json").read_text())["model"]["vocab"]
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (copy / name).unlink()
    (copy / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
    assert Tokenizer(load_tokenizer(base(copy)), 32).token_id("good") == vocabulary["good"]


def test_a_base_model_without_a_fast_tokenizer_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        is_fast = False

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: Slow())
    with pytest.raises(InvalidSettings, match="no fast tokenizer"):
        load_tokenizer(base(copy))


def test_a_broken_tokenizer_is_named(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(InvalidSettings, match=r"the tokenizer of .*base cannot be loaded"):
        load_tokenizer(base(copy))


def write_sentencepiece(file: Path) -> None:
    """A model of sentencepiece as it lies on the hub, without a tokenizer.json beside it."""
    corpus = ("the film was very good", "a bad film", "not good not bad", "films are bad or good") * 20
    with file.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus),
            model_writer=stream,
            vocab_size=40,
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            hard_vocab_limit=False,
            minloglevel=2,
        )


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("DebertaV2", "spm.model"),
        ("XLMRoberta", "sentencepiece.bpe.model"),
        ("Albert", "spiece.model"),
        ("XLNet", "spiece.model"),
    ],
)
def test_a_model_of_sentencepiece_alone_is_converted(kind: str, file: str, tmp_path: Path) -> None:
    write_sentencepiece(tmp_path / file)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": f"{kind}Tokenizer"}))
    ((window,),) = Tokenizer(load_tokenizer(base(tmp_path)), 32).windows([("The film was good", "bad films")])
    original = getattr(transformers, f"{kind}TokenizerFast").from_pretrained(tmp_path)
    assert window.input_ids == original("The film was good", "bad films")["input_ids"]
    assert len(window.input_ids) > 8


def test_a_broken_model_of_sentencepiece_is_named(tmp_path: Path) -> None:
    (tmp_path / "spm.model").write_bytes(b"nonsense")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DebertaV2Tokenizer"}))
    with pytest.raises(
        InvalidSettings,
        match=r"transformers reads no vocabulary out of spm.model: a file of sentencepiece or tiktoken is broken",
    ):
        load_tokenizer(base(tmp_path))


def test_a_file_of_tiktoken_alone_is_converted(tmp_path: Path) -> None:
    tokens = [bytes([number]) for number in range(256)] + [b"th", b"the", b" f", b"il", b"ilm", b" film"]
    ranks = [base64.b64encode(token) + f" {rank}".encode() for rank, token in enumerate(tokens)]
    (tmp_path / "tokenizer.model").write_bytes(b"\n".join(ranks))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    ((window,),) = Tokenizer(load_tokenizer(base(tmp_path)), 32).windows(["the film"])
    assert window.input_ids == [257, 261]


def test_what_converting_needs_is_named_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sentencepiece(tmp_path / "spm.model")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DebertaV2Tokenizer"}))
    for module in ("sentencepiece", "tiktoken"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidSettings, match=r"converting it needs sentencepiece and tiktoken, of the extra `train`"):
        load_tokenizer(base(tmp_path))


def test_a_folder_without_a_tokenizer_is_named(copy: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (copy / name).unlink()
    with pytest.raises(InvalidSettings, match=r"cannot be loaded: the folder holds none \(no tokenizer.json"):
        load_tokenizer(base(copy))


@pytest.mark.parametrize("kind", ["Canine", "Perceiver", "ByT5"])
def test_a_tokenizer_of_bytes_is_refused_in_one_sentence(kind: str, copy: Path) -> None:
    for name in ("tokenizer.json", "special_tokens_map.json"):
        (copy / name).unlink()
    (copy / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": f"{kind}Tokenizer"}))
    with pytest.raises(InvalidSettings, match="has no fast tokenizer"):
        load_tokenizer(base(copy))


@pytest.mark.parametrize(("family", "longest"), [("Bert", 64), ("Roberta", 64), ("DistilBert", 64)])
def test_the_longest_input_leaves_room_for_the_position_offset(family: str, longest: int, tiny_model: Any) -> None:
    model = tiny_model(family)
    assert longest_input(model) == longest
    ids = torch.full((1, longest), 5)
    model(input_ids=ids)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 5))


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 20}


@pytest.mark.parametrize(
    ("family", "config", "longest"),
    [
        ("MPNet", {**SMALL, "max_position_embeddings": 66}, 64),
        ("IBert", {**SMALL, "max_position_embeddings": 66, "pad_token_id": 1}, 64),
        ("Longformer", {**SMALL, "max_position_embeddings": 66, "pad_token_id": 1, "attention_window": [8]}, 64),
        ("Camembert", {**SMALL, "max_position_embeddings": 66, "pad_token_id": 1}, 64),
        ("Nystromformer", {**SMALL, "max_position_embeddings": 64}, 64),
        ("XLNet", {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32, "vocab_size": 20}, 8192),
        ("Funnel", {"d_model": 16, "block_sizes": [1], "n_head": 2, "d_head": 8, "d_inner": 32, "vocab_size": 20}, 8192),
        ("GPT2", {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 20, "n_positions": 64}, 64),
    ],
)
def test_the_longest_input_is_what_the_model_has_positions_for(family: str, config: dict[str, Any], longest: int) -> None:
    settings = getattr(transformers, f"{family}Config")(**config)
    model = getattr(transformers, f"{family}ForSequenceClassification")(settings)
    assert longest_input(model) == longest


@pytest.mark.parametrize(
    ("length", "longest"), [(128, 128), (10**30, 8192), (1e30, 8192), (0, 8192), (-1, 8192), (None, 8192), ("512", 8192)]
)
def test_a_tokenizer_s_length_counts_where_it_is_one(length: Any, longest: int, copy: Path) -> None:
    config = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": length}))
    assert find_start(str(copy)).max_tokens == longest


TEXTS = ["film " * 10] * 400 + ["film " * 40]


@pytest.mark.parametrize(("wish", "limit", "chosen"), [(0, 64, 64), (0, 8192, 512), (20, 64, 20), (8192, 8192, 8192)])
def test_the_length_is_the_recipe_s_or_the_base_model_s_up_to_512(wish: int, limit: int, chosen: int) -> None:
    assert choose_max_tokens(Recipe(max_tokens=wish), limit) == chosen


@pytest.mark.parametrize(("limit", "window"), [(64, 16), (8, 8)])
def test_a_window_fits_nearly_all_texts(limit: int, window: int) -> None:
    assert fitting_window(tokenizer_json(), TEXTS, limit) == window


def test_one_text_in_a_hundred_counts_for_the_window() -> None:
    assert fitting_window(tokenizer_json(), TEXTS[-100:], 64) == 48


def test_more_than_the_model_reads_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="max_tokens is 65, but the base model reads at most 64"):
        choose_max_tokens(Recipe(max_tokens=65), 64)

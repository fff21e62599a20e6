"""Capitals for a base model that reads none: which pieces there are, what they cost, and that they are learnt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer as Encoder
from tokenizers import models

from app.core.errors import InvalidSettings
from app.tasks.tokenizer import Tokenizer
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training import casing
from scripts.training.casing import CasedEmbedding, add_capitals, fold_capitals, with_capitals
from scripts.training.data import Example
from scripts.training.distillation import open_teacher
from scripts.training.fine_tune import fine_tune
from scripts.training.pretrained import BaseModel, Start
from scripts.training.recipe import Recipe
from scripts.training.run_folder import RunFolder
from tests.support.tiny_model import SPECIAL, VOCABULARY, tokenizer_json
from tests.unit.scripts.conftest import Train

TASK = TextClassificationTraining()
OPTIONS = {"labels": ["bad", "good"], "problem_type": "single_label_classification"}
LETTERS = {letter: len(VOCABULARY) + number for number, letter in enumerate(("n", "i", "##i", "##e", "ß"))}


def start(**changes: Any) -> Start:
    """Of the tiny tokenizer with single letters, and with changes of its normalizer or, as `prefix`, of its model."""
    definition = json.loads(tokenizer_json())
    definition["model"]["vocab"].update(LETTERS)
    definition["model"]["continuing_subword_prefix"] = changes.pop("prefix", "##")
    definition["normalizer"].update(changes)
    return Start(BaseModel("tiny", "tiny"), json.dumps(definition))


def pieces(text: str, cased: Start | None = None) -> list[str]:
    encoder = Encoder.from_str((cased or with_capitals(start())).tokenizer)
    return list(encoder.encode(text, add_special_tokens=False).tokens)


def numbers(definition: str, *wanted: str) -> torch.Tensor:
    tokenizer = Tokenizer(definition, 32)
    return torch.tensor([[tokenizer.token_id(piece) for piece in wanted]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a good film", ["a", "good", "film"]),
        ("A Good Films", ["A", "Good", "Film", "##s"]),
        ("THE FILMS", ["THE", "FILM", "##S"]),
        ("Ñie [SEP]", ["N", "##i", "##e", "[SEP]"]),  # accents go as before, special tokens stay
        ("NIE nIe", ["N", "##I", "##E", "n", "##I", "##e"]),
        ("Unheard", ["[UNK]"]),
        ("ß", ["ß"]),
    ],
)
def test_words_split_as_in_lower_case_into_pieces_with_their_capitals(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected
    assert [piece.lower() for piece in expected if piece not in SPECIAL] == [
        piece for piece in pieces(text, start()) if piece not in SPECIAL
    ]


def test_of_long_pieces_only_the_frequent_ones_have_an_upper_case_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(casing, "UPPER_PIECES", 2)
    vocabulary = {piece: number for number, piece in enumerate(["[UNK]", "often", "paris", "##land", "##ridge", "bridge", "b"])}
    assert casing.cased_pieces(vocabulary, {"[UNK]"}) == [
        "Often", "Paris", "Bridge", "B", "OFTEN", "PARIS", "##LAND",
    ]  # fmt: skip


def test_the_old_pieces_keep_their_numbers_and_added_tokens_theirs() -> None:
    tiny = json.loads(start().tokenizer)
    number = max(tiny["model"]["vocab"].values()) + 1
    tiny["added_tokens"].append({**tiny["added_tokens"][0], "id": number, "content": "<extra>"})
    definition = with_capitals(replace(start(), tokenizer=json.dumps(tiny))).tokenizer
    cased = json.loads(definition)["model"]["vocab"]
    assert all(cased[piece] == place for piece, place in tiny["model"]["vocab"].items())
    assert sorted(set(cased.values()) - set(tiny["model"]["vocab"].values())) == list(
        range(number + 1, number + 1 + len(cased) - len(tiny["model"]["vocab"]))
    )


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (start(lowercase=False), "tiny reads capitals already: leave out cased"),
        (with_capitals(start()), "tiny reads capitals already: leave out cased"),
        (start(type="Lowercase"), "cased is for vocabularies of word pieces, as BERT has them, not for that of tiny"),
        (
            Start(BaseModel("tiny", "tiny"), Encoder(models.BPE()).to_str()),
            "cased is for vocabularies of word pieces, as BERT has them, not for that of tiny",
        ),
        (start(prefix="@@"), "cased needs pieces that go on with ##, and tiny has others"),
    ],
)
def test_a_vocabulary_without_lower_case_word_pieces_is_refused(changed: Start, sentence: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        with_capitals(changed)
    assert refused.value.detail == sentence


def test_models_of_words_and_of_vectors_are_refused() -> None:
    for model in (transformers.BertForMaskedLM(transformers.BertConfig(30, 16, 1, 1, 16)), torch.nn.Linear(2, 2)):
        with pytest.raises(InvalidSettings, match=rf"labels, sentences or answers, not for {type(model).__name__}"):
            add_capitals(model, with_capitals(start()).tokenizer)


def test_an_untrained_model_reads_capitals_as_it_read_lower_case(tiny_model: Any) -> None:
    model, definition = tiny_model("Bert").eval(), with_capitals(Start(BaseModel("t", "t"), tokenizer_json())).tokenizer
    before = model(input_ids=numbers(definition, "the", "film", "##s"))["logits"]
    add_capitals(model, definition)
    assert torch.equal(model(input_ids=numbers(definition, "The", "FILM", "##S"))["logits"], before)


def test_the_folded_table_is_an_ordinary_one_with_the_same_answers(tiny_model: Any, tmp_path: Path) -> None:
    model, definition = tiny_model("Bert").eval(), with_capitals(Start(BaseModel("t", "t"), tokenizer_json())).tokenizer
    table = model.get_input_embeddings()
    add_capitals(model, definition)
    embedding = model.get_input_embeddings()
    torch.nn.init.normal_(embedding.capitalised)
    torch.nn.init.normal_(embedding.upper_case)
    written = numbers(definition, "The", "THE", "the", "[UNK]", "##S")
    answers = model(input_ids=written)["logits"]
    vectors = embedding(written)[0]
    torch.testing.assert_close(vectors[0] - vectors[2], casing.CASE_PACE * embedding.capitalised, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(vectors[1] - vectors[2], casing.CASE_PACE * embedding.upper_case, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(vectors[3], table.weight[VOCABULARY["[UNK]"]])
    fold_capitals(model)
    assert type(model.get_input_embeddings()) is torch.nn.Embedding
    assert torch.equal(model(input_ids=written)["logits"], answers)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(again(input_ids=written)["logits"], answers)


def test_some_rows_are_read_in_lower_case_while_it_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = CasedEmbedding(torch.nn.Embedding(2, 3), torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
    torch.nn.init.constant_(embedding.capitalised, 1 / casing.CASE_PACE)
    monkeypatch.setattr(torch, "rand", lambda *shape, **kind: torch.tensor([[0.04], [0.06]]))
    lower, capitalised = embedding.table.weight[1], embedding.table.weight[1] + 1
    written = torch.tensor([[2, 2], [2, 2]])
    torch.testing.assert_close(embedding(written), torch.stack([lower, lower, capitalised, capitalised]).view(2, 2, 3))
    torch.testing.assert_close(embedding.eval()(written), capitalised.expand(2, 2, 3))


RECIPE = Recipe(data=["x"], epochs=3, batch_size=8, learning_rate=0.005, precision="fp32", cased=True, seed=1)
WRITTEN = [("the film was very good", 0), ("THE FILM WAS VERY GOOD", 1)] * 16


def test_what_capitals_tell_is_learnt_for_all_words_and_a_killed_run_goes_on(tiny_model: Any, tmp_path: Path) -> None:
    cased = with_capitals(Start(BaseModel("t", "t"), tokenizer_json()))
    tokenizer = Tokenizer(cased.tokenizer, 32)
    examples = [Example(TASK.item({"text": text}), OPTIONS["labels"][right], "x", "x") for text, right in WRITTEN]
    rows, run = TASK.training_rows(examples, tokenizer, OPTIONS), RunFolder(tmp_path)

    def trained(resume: bool) -> Any:
        model = tiny_model("Bert")
        add_capitals(model, cased.tokenizer)
        fine_tune(RECIPE, TASK, model, rows, run, resume)
        return model.eval()

    whole = trained(False)
    table, vocabulary = whole.get_input_embeddings().weight, json.loads(cased.tokenizer)["model"]["vocab"]
    learnt = table[vocabulary["THE"]] - table[vocabulary["the"]]
    assert learnt.norm() > 0.01
    # of a word that no row has, too; nothing was capitalised, and nothing is learnt of that
    torch.testing.assert_close(table[vocabulary["NOT"]] - table[vocabulary["not"]], learnt, rtol=1e-4, atol=1e-5)
    assert torch.equal(table[vocabulary["Not"]], table[vocabulary["not"]])
    run.checkpoints[-1].rename(tmp_path / "lost")
    for name, weights in trained(True).state_dict().items():
        torch.testing.assert_close(weights, whole.state_dict()[name], rtol=0, atol=1e-5)


def test_a_published_model_and_a_teacher_keep_the_capitals(train: Train, base_folder: Path, tmp_path: Path) -> None:
    assert train("--cased", "--name", "capitals") == 0
    definition = (tmp_path / "models" / "capitals" / "1" / "tokenizer.json").read_text(encoding="utf-8")
    original = (base_folder / "tokenizer.json").read_text(encoding="utf-8")
    assert definition == with_capitals(Start(BaseModel("t", "t"), original)).tokenizer
    assert "word_embeddings.weight" in "".join(load_file(tmp_path / "runs" / "capitals" / "final" / "model.safetensors"))
    labels = {"labels": ["negative", "positive"], "problem_type": "single_label_classification"}
    assert open_teacher("runs/capitals", TASK, labels).tokenizer.token_id("FILM") == Tokenizer(definition, 32).token_id("FILM")


def test_who_goes_on_is_told_that_capitals_are_read_already(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--cased", "--name", "capitals") == 0
    assert train("--cased", "--base-model", "capitals/1", "--name", "more") == 2
    assert "capitals/1 reads capitals already: leave out cased" in capsys.readouterr().err

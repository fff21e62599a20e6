"""What tasks that write share: baselines that need no model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import InvalidSettings
from app.core.manifest import Decoder
from app.tasks.generation import SourceText
from scripts.tasks.generation.pairs import PairText
from scripts.tasks.translation import SPEC as TASK
from scripts.training.data import Example, read_all, read_corrections
from scripts.training.recipe import Recipe
from scripts.training.seq2seq.tokenizer import PairTokenizer
from tests.support.corrections import CORRECTION, write_feedback
from tests.support.writing import EOS, LANGUAGES, metaspace_json


def test_the_nearest_source_of_the_training_rows_is_a_baseline() -> None:
    train = [Example(SourceText(text), text.upper(), "a", "a:1") for text in ("a red house", "two dogs run", "the old town")]
    baselines = dict(TASK.baselines(train, [Example(SourceText("three dogs run"), "", "a", "a:1")], {}))
    assert [answer.text for answer in baselines["target of the most similar source"]] == ["TWO DOGS RUN"]


@pytest.mark.parametrize("languages", [("en", "de"), ("source", "target")], ids="-".join)
def test_what_should_have_been_written_is_trained_on_in_place_of_the_data(tmp_path: Path, languages: tuple[str, str]) -> None:
    texts = [f"text number {number}" for number in range(20)]
    data = tmp_path / "pairs.csv"
    rows = [",".join(languages), *(f"{text},Text Nummer {number}" for number, text in enumerate(texts))]
    data.write_text("\n".join(rows), encoding="utf-8")
    corrections = [
        replace(CORRECTION, model="pairs", task="translation", item={"text": text}, right={"translation": f"besser {text}"})
        for text in (*texts, "another text")
    ]
    feedback = str(write_feedback(tmp_path / "feedback.db", corrections))
    recipe = Recipe(name="pairs", task="translation", data=[str(data)], from_feedback=[feedback])
    dataset = TASK.prepare(recipe, read_all(recipe) | dict(read_corrections(recipe).records)).dataset
    assert {example.target for example in dataset.train} == {f"besser {example.item.text}" for example in dataset.train}
    assert SourceText("another text") in [example.item for example in dataset.train]
    assert {example.target for example in dataset.validation} <= {f"Text Nummer {number}" for number in range(20)}
    assert dataset.num_corrections == len(dataset.train)


def test_corrections_of_other_languages_are_learnt_in_theirs_and_replace_no_row_of_the_data(tmp_path: Path) -> None:
    data = tmp_path / "pairs.csv"
    texts = [f"the film number {number}" for number in range(20)]
    data.write_text("\n".join(["en,de", *(f"{text},der Film {text}" for text in texts)]), encoding="utf-8")
    item = {"text": texts[0], "source": "en"}
    corrections = [
        replace(CORRECTION, model="pairs", task="translation", item={**item, "target": target}, right={"translation": "besser"})
        for target in ("de", "fr")
    ]
    feedback = str(write_feedback(tmp_path / "feedback.db", corrections))
    recipe = Recipe(name="pairs", task="translation", data=[str(data)], from_feedback=[feedback], split=0.95, seed=1)
    records = read_all(recipe) | dict(read_corrections(recipe).records)
    dataset = TASK.prepare(recipe, records).dataset
    learnt = [example for example in dataset.train if example.target == "besser"]
    assert [example.item for example in learnt] == [SourceText(texts[0]), PairText(texts[0], "en", "fr")]
    assert dataset.num_replaced == 1

    tokens = dict(zip(("en", "de", "fr"), LANGUAGES, strict=True))
    known = {"sources": [*tokens], "targets": [*tokens], "source": "en", "target": "de", "language_tokens": tokens}
    decoder = Decoder(
        file="a.onnx", num_layers=1, num_heads=1, head_size=8, vocab_size=290, max_length=30, eos_token_ids=(EOS,)
    )
    tokenizer = PairTokenizer(metaspace_json(), 64, decoder)
    rows = TASK.training_rows(learnt, tokenizer, {**known, "source_place": "first", "target_place": "first_written"})
    ids = {code: tokenizer.token_id(token) for code, token in tokens.items()}
    assert [row.label[0] for row in rows] == [ids["de"], ids["fr"]]
    assert {row.row.input_ids[0] for row in rows} == {ids["en"]}
    with pytest.raises(InvalidSettings, match="from English into French, and the model that is trained does not know English"):
        TASK.training_rows(learnt, tokenizer, {"source": "en", "target": "de"})

"""What tasks that write share: baselines that need no model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.tasks.generation import SourceText
from scripts.tasks.translation import SPEC as TASK
from scripts.training.data import Example, read_all, read_corrections
from scripts.training.recipe import Recipe
from tests.support.corrections import CORRECTION, write_feedback


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

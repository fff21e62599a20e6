"""A published model answers in this process as the service does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hooper
from app.core.errors import InvalidInput, InvalidSettings, UnknownModel
from hooper import LoadedModel
from tests.support.tiny_model import publish_tiny, publish_tiny_task


@pytest.fixture
def model(tmp_path: Path) -> Iterator[LoadedModel]:
    publish_tiny(tmp_path)
    with hooper.load("tiny", models=tmp_path) as model:
        yield model


def test_texts_get_the_results_that_the_service_gives(model: LoadedModel) -> None:
    assert (model.name, model.task) == ("tiny/1", "text-classification")
    good, bad = model.predict(["a good film", "a bad film"])
    assert [result["labels"][0]["label"] for result in (good, bad)] == ["good", "bad"]
    assert good.keys() == {"labels", "num_tokens", "truncated"}


def test_one_text_is_a_list_of_one_result(model: LoadedModel) -> None:
    (result,) = model.predict("a good film", top_k=1)
    assert [label["label"] for label in result["labels"]] == ["good"]
    assert len(model.predict("a good film")[0]["labels"]) == 2  # options hold for one call


def test_an_item_that_cannot_be_answered_gets_its_error_in_its_place(model: LoadedModel) -> None:
    good, empty = model.predict(["a good film", ""])
    assert good["labels"]
    assert "error" in empty


async def test_a_model_can_be_asked_where_an_event_loop_runs(model: LoadedModel) -> None:
    assert model.predict("a good film")[0]["labels"][0]["label"] == "good"


def test_other_tasks_take_mappings(tmp_path: Path) -> None:
    publish_tiny_task(tmp_path, "question-answering", "tiny")
    with hooper.load(tmp_path / "tiny" / "1") as model:
        (result,) = model.predict({"question": "was it good ?", "context": "the film was good"})
    assert "answers" in result


def test_what_is_wrong_is_said_in_one_sentence(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="--depth is no option of text-classification"):
        model.predict("a film", depth=3)
    with pytest.raises(InvalidInput, match="an input must be a text or a mapping of fields, not int"):
        model.predict([5])  # type: ignore[list-item]
    with pytest.raises(UnknownModel):
        hooper.load("other", models=tmp_path)


def test_loading_needs_no_torch(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    code = f"""import sys, hooper
with hooper.load("tiny", models={str(tmp_path)!r}) as model:
    print(model.predict("a good film")[0]["labels"][0]["label"])
print([name for name in ("torch", "transformers") if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "good\n[]\n"

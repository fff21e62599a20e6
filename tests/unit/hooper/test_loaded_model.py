"""A published model answers in this process as the service does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas
import pytest

import hooper
from app.core.errors import InvalidInput, InvalidSettings, UnknownModel
from app.tasks.registry import installed_tasks
from hooper import LoadedModel
from hooper.errors import ItemsFailed
from hooper.loaded_model import CHUNK
from tests.support.tiny_model import publish_tiny, publish_tiny_spec, publish_tiny_task


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


def test_labels_of_ones_own_make_answers_of_another_kind(model: LoadedModel, tmp_path: Path) -> None:
    publish_tiny_spec(tmp_path, installed_tasks()["feature-extraction"])
    with hooper.load("feature-extraction", models=tmp_path) as vectors:
        frame = vectors.predict(["a good film", ""], labels=["good", "bad"], as_="pandas")
        assert vectors.predict("a good film").ndim == 2  # options hold for one call
    assert set(frame["label"].dropna()) <= {"good", "bad"}
    assert frame["score"].isna().tolist() == [False, True]
    with pytest.raises(InvalidSettings, match="tiny/1 knows its own labels only"):
        model.predict("a good film", labels=["good", "bad"])


def test_other_tasks_take_mappings(tmp_path: Path) -> None:
    publish_tiny_task(tmp_path, "question-answering", "tiny")
    with hooper.load(tmp_path / "tiny" / "1") as model:
        (result,) = model.predict({"question": "was it good ?", "context": "the film was good"})
    assert "answers" in result


def test_what_is_wrong_is_said_in_one_sentence(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"^depth is no option of text-classification"):
        model.predict("a film", depth=3)
    with pytest.raises(InvalidSettings, match=r"^threshold is for models that give a text any number of labels"):
        model.predict(["a film", "a good film"], threshold=0.5)
    (unread,) = model.predict({"Satz": "a film"})
    assert unread["error"]["detail"] == "text: is required; 'Satz' is not a field that is known here"
    with pytest.raises(InvalidInput, match="an input must be a text or a mapping of fields, not int"):
        model.predict([5])
    with pytest.raises(UnknownModel):
        hooper.load("other", models=tmp_path)


def test_whatever_holds_texts_is_answered_and_tables_keep_its_index(model: LoadedModel) -> None:
    texts = pandas.Series(["a good film", None, "a bad film"], index=["x", "y", "z"])
    frame = model.predict(texts, as_="pandas", top_k=2)
    assert list(frame.index) == ["x", "y", "z"]
    assert list(frame["label"].fillna("")) == ["good", "", "bad"]
    assert {"score", "label_2", "score_2", "num_tokens", "error"} <= set(frame.columns)
    array = model.predict(texts, as_="numpy")
    assert list(array["label"]) == ["good", None, "bad"]
    assert np.isnan(array["score"][1])
    assert "nothing to read" in array["error"][1]
    assert model.predict(pandas.DataFrame({"id": [1], "Comment": ["good"]}), as_="numpy")["label"][0] == "good"
    assert model.predict([]) == []


def test_what_cannot_be_answered_is_raised_where_it_is_asked_for(model: LoadedModel) -> None:
    with pytest.raises(
        ItemsFailed, match=r"1 of 2 items could not be answered; the first is inputs\[1\]: there is nothing"
    ) as raised:
        model.predict(["good", float("nan")], errors="raise")
    assert len(raised.value.results) == 2


def test_probabilities_have_the_order_of_the_labels(model: LoadedModel) -> None:
    scores = model.predict_proba(["good", "bad", ""])
    assert model.labels == ["bad", "good"]
    assert scores.shape == (3, 2)
    assert list(scores[:2].argmax(axis=1)) == [1, 0]
    assert np.isnan(scores[2]).all()


def test_a_model_without_labels_has_no_probabilities(tmp_path: Path) -> None:
    publish_tiny(tmp_path, "stars", labels=["score"], problem_type="regression")
    with hooper.load("stars", models=tmp_path) as model:
        assert model.predict("good", as_="numpy").dtype["score"] == np.float64
        with pytest.raises(InvalidSettings, match="stars/1 does text-regression, and has no probabilities"):
            model.predict_proba("good")


def test_many_texts_get_the_same_answers_as_each_alone_from_any_thread(model: LoadedModel) -> None:
    texts = [f"{'good ' * (number % 7)}bad film" for number in range(CHUNK + 76)]
    alone = {text: model.predict(text)[0]["labels"][0]["label"] for text in dict.fromkeys(texts)}
    with ThreadPoolExecutor(3) as pool:
        for results in pool.map(lambda _: model.predict(iter(texts)), range(3)):
            assert [result["labels"][0]["label"] for result in results] == [alone[text] for text in texts]


def test_a_closed_model_says_so(model: LoadedModel) -> None:
    model.close()
    model.close()
    with pytest.raises(InvalidSettings, match="tiny/1 is closed; load it again"):
        model.predict("good")


def test_choices_are_checked(model: LoadedModel) -> None:
    with pytest.raises(InvalidSettings, match="as_ must be one of objects, pandas, numpy, not 'polars'"):
        model.predict("good", as_="polars")  # type: ignore[call-overload]
    with pytest.raises(InvalidSettings, match="errors must be one of return, raise, not 'ignore'"):
        model.predict("good", errors="ignore")  # type: ignore[call-overload]
    with pytest.raises(InvalidSettings, match=r"^top_k: should be greater than or equal to 1"):
        model.predict("good", top_k=0)


def test_loading_needs_no_torch(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    code = f"""import sys, hooper
with hooper.load("tiny", models={str(tmp_path)!r}) as model:
    print(model.predict("a good film")[0]["labels"][0]["label"])
print([name for name in ("torch", "transformers") if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "good\n[]\n"


def test_a_script_that_does_not_close_its_model_ends(tmp_path: Path) -> None:
    publish_tiny(tmp_path, "tiny")
    code = f"import hooper; model = hooper.load('tiny', models={str(tmp_path)!r}); print(len(model.predict('good')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_model_of_vectors_gives_an_array_of_them(tmp_path: Path) -> None:
    publish_tiny_spec(tmp_path, installed_tasks()["feature-extraction"])
    with hooper.load("feature-extraction", models=tmp_path) as model:
        vectors = model.predict(["a good film", "", "bad"])
        assert (vectors.shape, vectors.dtype) == ((3, 2), np.float32)
        assert np.isnan(vectors).tolist() == [[False, False], [True, True], [False, False]]
        (result,) = model.predict("bad", as_="objects")
        assert result["embedding"] == pytest.approx(vectors[2].tolist())
        assert len(model.predict(["bad"], as_="pandas")["embedding"][0]) == 2
        assert model.predict([]).shape == (0, 0)

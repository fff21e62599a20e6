"""Labels in the words of other protocols, and as a person corrects them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from app.core.errors import EmptyBatch, InvalidInput
from app.tasks.base import Result
from app.tasks.labels import NUM_NAMED
from app.tasks.text_classification.protocols import (
    CORRECTION,
    HUGGING_FACE,
    OPEN_INFERENCE,
    LabelledText,
    PredictRequest,
    native_items,
)
from app.tasks.text_classification.schemas import TextPair
from app.tasks.text_classification.task import Classification, ClassificationItem, LabelScore, SelectableLabel

SINGLE = {"labels": ["bad", "Good"], "problem_type": "single_label_classification"}
MULTI = {"labels": ["bad", "Good"], "problem_type": "multi_label_classification"}
ITEM = ClassificationItem("a")


def result(**scores: float) -> Result:
    return Result(Classification([LabelScore(name, score) for name, score in scores.items()]), 3, False)


def gold(sent: dict[str, Any], options: dict[str, Any] = SINGLE, allows_new: bool = False) -> Any:
    return CORRECTION.gold(LabelledText.model_validate({"text": "a", **sent}), ITEM, allows_new, options)


def test_texts_and_pairs_are_items_and_nothing_else_is() -> None:
    native = native_items("text classification")
    assert native.item("a") == ITEM
    assert native.item(TextPair(text="a", text_pair="b")) == ClassificationItem("a", "b")
    assert isinstance(native.item(object()), InvalidInput)


def test_hugging_faces_parameters_are_the_tasks_options() -> None:
    options = HUGGING_FACE.options(SimpleNamespace(top_k=2, function_to_apply="none"))
    assert (options.top_k, options.activation) == (2, "none")
    assert [label.label for label in HUGGING_FACE.answer(result(good=0.9, bad=0.1))] == ["good", "bad"]


def test_tensors_hold_the_labels_of_all_items_in_order() -> None:
    columns, shape = OPEN_INFERENCE.columns([result(good=0.9, bad=0.1), result(bad=0.6, good=0.4)])
    assert shape == [2, 2]
    assert columns == {"label": ["good", "bad", "bad", "good"], "score": [0.9, 0.1, 0.6, 0.4]}
    assert OPEN_INFERENCE.items({"text": ["a", "b"], "text_pair": ["c", "d"]}) == [
        ClassificationItem("a", "c"), ClassificationItem("b", "d"),
    ]  # fmt: skip
    assert OPEN_INFERENCE.items({"text": ["a"]}) == [ITEM]


@pytest.mark.parametrize(
    ("inputs", "items", "places"),
    [
        ("a", [ITEM], ["inputs"]),
        (["a", "b"], [ClassificationItem("a", "b")], ["inputs.0"]),
        ([["a"], ["a", "b"]], [ITEM, ClassificationItem("a", "b")], ["inputs.0.0", "inputs.1.0"]),
    ],
)
def test_text_embeddings_inference_tells_a_pair_from_a_batch(inputs: Any, items: list[Any], places: list[str]) -> None:
    request = PredictRequest(inputs=inputs)
    assert request.items() == items
    assert [request.place(number, "text") for number in range(len(items))] == places
    shaped = request.shaped([result(good=1.0)] * len(items), "tiny")
    assert isinstance(shaped[0], list) == request.is_batch


def test_text_embeddings_inference_names_the_second_text_of_a_pair() -> None:
    assert PredictRequest(inputs=["a", "b"]).place(0, "text_pair") == "inputs.1"
    assert PredictRequest(inputs=[["a", "b"]]).place(0, "text_pair") == "inputs.0.1"


@pytest.mark.parametrize("inputs", [["a"], ["a", "b", "c"], [["a", "b", "c"]], [[]], 1, [["a"], "b"], None])
def test_other_inputs_are_refused_in_one_sentence(inputs: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        PredictRequest(inputs=inputs)
    assert len(caught.value.errors()) == 1
    assert "a batch [[text], [text, text], …]" in str(caught.value)


def test_an_empty_batch_is_refused_with_its_own_error() -> None:
    with pytest.raises(EmptyBatch):
        PredictRequest(inputs=[]).items()


@pytest.mark.parametrize(("side", "expected"), [("left", "left"), ("Left", "left"), ("right", "right"), (None, None)])
def test_the_side_that_is_cut_is_the_tokenizers_unless_it_is_sent(side: str | None, expected: str | None) -> None:
    request = PredictRequest(inputs="a", **({} if side is None else {"truncation_direction": side}))  # type: ignore[arg-type]
    assert request.options().truncation_side == expected
    assert request.options().truncation == "error"
    assert PredictRequest(inputs="a", truncate=True, raw_scores=True).options().activation == "none"


def test_a_correction_has_either_a_label_or_labels() -> None:
    for sent in ({}, {"label": "bad", "labels": ["bad"]}):
        with pytest.raises(ValidationError, match="either `label` or `labels`"):
            LabelledText.model_validate({"text": "a", **sent})


def test_a_label_is_kept_in_the_models_spelling() -> None:
    assert gold({"label": " Good"}) == {"label": "Good"}
    assert gold({"labels": ["Good", "bad", "Good "]}, MULTI) == {"labels": ["Good", "bad"]}
    assert gold({"labels": []}, MULTI) == {"labels": []}
    assert gold({"label": "bad"}, MULTI) == {"labels": ["bad"]}


def test_an_unknown_label_is_refused_with_the_models_own_unless_new_ones_are_meant() -> None:
    with pytest.raises(InvalidInput, match=r"none of the model's labels \(bad, Good\)"):
        gold({"label": "mixed"})
    assert gold({"label": "mixed"}, allows_new=True) == {"label": "mixed"}
    many = {"labels": [f"l{number}" for number in range(NUM_NAMED + 2)]}
    with pytest.raises(InvalidInput, match=r"l9 and 2 more\)"):
        gold({"label": "mixed"}, many)


@pytest.mark.parametrize("label", ["", " ", "\t\n"])
def test_a_label_that_is_no_text_is_refused_even_where_new_ones_are_meant(label: str) -> None:
    with pytest.raises(InvalidInput):
        gold({"label": label}, allows_new=True)


def test_a_list_of_labels_is_refused_by_a_model_that_gives_one() -> None:
    with pytest.raises(InvalidInput, match="send it as `label`"):
        gold({"labels": ["bad"]})


def test_an_answer_agrees_where_its_best_label_or_all_selected_ones_are_right() -> None:
    labels = [SelectableLabel("good", 0.9, True), SelectableLabel("bad", 0.3, True), SelectableLabel("dull", 0.6, False)]
    answer = Classification(labels)
    assert CORRECTION.agrees(answer, LabelledText(text="a", label="good "))
    assert not CORRECTION.agrees(answer, LabelledText(text="a", label="bad"))
    assert CORRECTION.agrees(answer, LabelledText(text="a", labels=["bad", "good"]))
    assert not CORRECTION.agrees(answer, LabelledText(text="a", labels=["good"]))


def test_a_correction_becomes_a_row_that_training_reads() -> None:
    assert CORRECTION.training_row({"text": "a"}, {"label": "bad"}) == {"text": "a", "label": "bad"}
    assert CORRECTION.training_row({"text": "a"}, {"labels": ("bad",)}) == {"text": "a", "label": ["bad"]}

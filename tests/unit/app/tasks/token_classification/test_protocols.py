"""Tags in the words of other protocols, and as a person corrects them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.token_classification.protocols import CORRECTION, HUGGING_FACE, NATIVE, OPEN_INFERENCE, TaggedText
from app.tasks.token_classification.spec import SPEC
from app.tasks.token_classification.task import Entities, Entity, TagItem, TagOptions

TEXT = "Anna lives in Bern."
ANNA, BERN = Entity("PER", "Anna", 0, 4, 0.9), Entity("LOC", "Bern", 14, 18, 0.8)
LABELS = {"labels": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]}


def result(*entities: Entity, is_grouped: bool = True) -> Result:
    return Result(Entities(entities, is_grouped), 7, False)


def gold(*entities: tuple[int, int, str], allows_new: bool = False) -> Any:
    sent = [{"start": start, "end": end, "label": label} for start, end, label in entities]
    correction = TaggedText.model_validate({"text": TEXT, "entities": sent})
    return CORRECTION.gold(correction, TagItem(TEXT), allows_new, LABELS)


def test_hugging_faces_defaults_are_those_of_its_service() -> None:
    none_sent = SimpleNamespace(aggregation_strategy=None, ignore_labels=None, stride=None)
    assert HUGGING_FACE.options(none_sent) == TagOptions("simple")
    sent = SimpleNamespace(aggregation_strategy="max", ignore_labels=["PER", "O"], stride=5)
    assert HUGGING_FACE.options(sent) == TagOptions("max", stride=5, ignored=("PER", "O"))


def test_entities_are_groups_and_tokens_are_not() -> None:
    assert HUGGING_FACE.answer(result(ANNA)) == [{"entity_group": "PER", "score": 0.9, "word": "Anna", "start": 0, "end": 4}]
    assert next(iter(HUGGING_FACE.answer(result(ANNA, is_grouped=False))[0])) == "entity"
    assert HUGGING_FACE.for_hub_client(["as it is"], None) == ["as it is"]


def test_a_tensor_holds_the_entities_of_an_item_as_json() -> None:
    columns, shape = OPEN_INFERENCE.columns([result(ANNA, BERN), result()])
    assert shape == [2]
    first, second = map(json.loads, columns["entities"])
    assert [entity["text"] for entity in first] == ["Anna", "Bern"]
    assert second == []
    assert OPEN_INFERENCE.items({"text": [TEXT]}) == [TagItem(TEXT)]


def test_one_text_is_an_item_and_a_pair_is_none() -> None:
    assert NATIVE.item(SimpleNamespace(text=TEXT)) == TagItem(TEXT)
    assert isinstance(NATIVE.item(SimpleNamespace(text=TEXT, text_pair="b")), InvalidInput)
    assert isinstance(NATIVE.item(7), InvalidInput)


def test_a_correction_keeps_its_entities_in_the_order_of_the_text() -> None:
    assert [entity["label"] for entity in gold((14, 18, "LOC"), (0, 4, "PER"))["entities"]] == ["PER", "LOC"]
    assert gold() == {"entities": []}
    assert gold((0, 4, "NEW"), allows_new=True)["entities"][0]["label"] == "NEW"


@pytest.mark.parametrize(
    ("entities", "field", "reason"),
    [
        ([(14, 18, "LOC"), (4, 4, "PER")], "entities.1", "has no characters"),
        ([(0, 99, "PER")], "entities.0", "the text has 19"),
        ([(0, 4, "PER"), (3, 6, "LOC")], "entities.1", "overlaps"),
        ([(0, 4, "NEW")], "entities.0.label", r"none of the model's labels \(LOC, PER\)"),
        ([(0, 4, " ")], "entities.0.label", "none of the model's"),
    ],
)
def test_a_correction_that_cannot_be_right_is_refused(entities: Any, field: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        gold(*entities)
    assert caught.value.field == field


def test_an_answer_agrees_where_labels_and_places_do() -> None:
    correction = TaggedText.model_validate({"text": TEXT, "entities": [{"start": 0, "end": 4, "label": "PER"}]})
    assert CORRECTION.agrees(result(ANNA).answer, correction)
    assert not CORRECTION.agrees(result(ANNA, BERN).answer, correction)
    row = CORRECTION.training_row({"text": TEXT}, {"entities": [{"start": 0, "end": 4, "label": "PER"}]})
    assert row == {"text": TEXT, "entities": [{"start": 0, "end": 4, "label": "PER"}]}


def test_a_terminal_shows_each_entity_and_says_where_there_is_none() -> None:
    entities = [{"label": "PER", "text": "Anna", "score": 0.9}, {"label": "LOC", "text": "Bern", "score": 0.8}]
    assert [line.answer for line in SPEC.lines({"text": TEXT}, {"entities": entities}, 1)] == ["PER: Anna", "LOC: Bern"]
    assert [line.answer for line in SPEC.lines({"text": TEXT}, {"entities": []}, 1)] == ["(no entity)"]

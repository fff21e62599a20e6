"""`POST /v1/tag`: what it takes and gives."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.token_classification.schemas import TagRequest, TagResult
from app.tasks.token_classification.task import Entities, Entity, TagItem, TagOptions


def test_a_text_and_a_list_of_texts_are_items() -> None:
    assert TagRequest(inputs="a").items() == [TagItem("a")]
    request = TagRequest.model_validate({"inputs": ["a", 7], "aggregation": "max", "truncation": "error"})
    good, wrong = request.items()
    assert good == TagItem("a")
    assert isinstance(wrong, InvalidInput)
    assert request.options() == TagOptions("max", "error")


@pytest.mark.parametrize("wrong", [{"aggregation": "mean"}, {"top_k": 1}, {"inputs": []}, {"inputs": {"text": "a"}}])
def test_other_fields_and_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TagRequest.model_validate({"inputs": "a", **wrong})


def test_a_result_has_the_entities_in_their_order() -> None:
    answer = Entities([Entity("PER", "Anna", 0, 4, 0.9), Entity("LOC", "Bern", 14, 18, 0.8)])
    result = TagResult.of(Result(answer, 7, True))
    assert [(span.label, span.text, span.start, span.end) for span in result.entities] == [
        ("PER", "Anna", 0, 4), ("LOC", "Bern", 14, 18),
    ]  # fmt: skip
    assert (result.num_tokens, result.truncated) == (7, True)
    TagResult.model_validate(result.model_dump())

"""What tasks have alike where they speak other protocols."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.protocols import hub_parameters, in_one_sentence, json_columns, one_text, tensors_example
from app.tasks.schemas import told
from app.tasks.text_classification.schemas import TextPair


class Part(BaseModel):
    name: str
    number: int


class Parts(BaseModel):
    parts: list[Part]
    num_tokens: int


@dataclass(frozen=True)
class Answer:
    number: int
    name: str = "ä"


def parts_of(result: Result) -> Parts:
    return told(Parts, result, parts=[told(Part, part) for part in result.answer])


def test_a_result_has_the_answers_attributes_and_the_others() -> None:
    assert parts_of(Result([Answer(1)], 7, False)) == Parts(parts=[Part(name="ä", number=1)], num_tokens=7)


def test_lists_of_results_are_json_in_the_order_of_the_fields() -> None:
    columns, shape = json_columns("parts", parts_of)([Result([Answer(1), Answer(2)], 7, False), Result([], 3, False)])
    assert columns == {"parts": ['[{"name": "ä", "number": 1}, {"name": "ä", "number": 2}]', "[]"]}
    assert shape == [2]
    assert [len(json.loads(text)) for text in columns["parts"]] == [2, 0]


@pytest.mark.parametrize("value", ["a text", TextPair(text="a text")])
def test_a_text_or_an_object_of_one_is_an_item(value: Any) -> None:
    assert one_text(str.upper, "it reads")(value) == "A TEXT"


@pytest.mark.parametrize("value", [TextPair(text="a", text_pair="b"), TextPair(text="", text_pair=""), 3, None])
def test_what_is_no_single_text_is_told_why(value: Any) -> None:
    refused = one_text(str.upper, "it reads")(value)
    assert isinstance(refused, InvalidInput)
    assert refused.reason == "should be one text: it reads"


def test_a_parameter_is_described_as_its_familys_and_may_be_left_out() -> None:
    kind, field = hub_parameters("Fill-mask", top_k=(int, "how many"))["top_k"]
    assert TypeAdapter(kind).validate_python(None) is None
    assert (field.default, field.description) == (None, "Fill-mask: how many.")


def test_what_has_none_of_the_forms_is_told_which_there_are() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[int | list[int], in_one_sentence("a number, or a list of them")])
    assert adapter.validate_python([1]) == [1]
    with pytest.raises(ValidationError, match="should be a number, or a list of them") as raised:
        adapter.validate_python("x")
    assert raised.value.error_count() == 1


def test_an_example_has_a_tensor_for_each_field_and_its_parameters() -> None:
    example = tensors_example("qa", {"top_k": 1}, question=["Who?", "When?"])
    tensor = {"name": "question", "shape": [2], "datatype": "BYTES", "data": ["Who?", "When?"]}
    assert (example.model, example.value) == ("qa", {"inputs": [tensor], "parameters": {"top_k": 1}})
    assert "parameters" not in tensors_example("qa", question=["Who?"]).value

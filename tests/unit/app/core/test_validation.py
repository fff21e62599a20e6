"""Of what a value could have been, the one that was meant is told what is wrong with it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.core.validation import wrong_field


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")
    question: str
    context: str


class Compared(BaseModel):
    model_config = ConfigDict(extra="forbid")
    source: str
    sentences: Annotated[list[str], Field(min_length=1)]


@pytest.mark.parametrize(
    ("value", "field", "message"),
    [
        ({"source": "a", "sentences": []}, "sentences", "must not be empty"),
        ({"source": "a"}, "sentences", "is required"),
        ({"question": "a", "text": "b"}, "context", "is required; 'text' is not a field that is known here"),
        (7, "", "should be a valid string or an object"),
    ],
)
def test_the_branch_whose_names_were_given_was_meant(value: Any, field: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(str | Question | Compared).validate_python(value)
    found, said = wrong_field(caught.value.errors())
    assert found == field
    assert said.startswith(message)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Annotated[bool, Field(strict=True)] | Literal["never"] | None, 1, "should be true, false or 'never'"),
        (Annotated[list[str], Field(max_length=1)], ["a", "b"], "list should have at most 1 item, not 2"),
        (Annotated[str, Field(max_length=9)], "\ud800", "contains a lone surrogate, which is not valid Unicode"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert wrong_field(caught.value.errors()) == ("", message)

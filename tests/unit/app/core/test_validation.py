"""Of what a value could have been, the one that was meant is told what is wrong with it."""

from __future__ import annotations

from typing import Annotated, Any

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

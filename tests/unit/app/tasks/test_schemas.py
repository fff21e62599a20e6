"""Native requests: unknown fields are refused, and a wrong item of a list is wrong alone."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ValidationError

from app.core.errors import InvalidInput
from app.tasks.registry import installed_tasks
from app.tasks.schemas import MAX_ITEM_FIELDS, ItemOrError, Request, as_list, items_of, union


class Couple(Request):
    first: str
    second: str = ""


class CoupleRequest(Request):
    inputs: Couple | list[Annotated[Couple, ItemOrError]]


def read(items: list[Any]) -> list[Any]:
    return items_of(CoupleRequest).validate_python(items)


def test_a_mistyped_option_is_refused() -> None:
    with pytest.raises(ValidationError, match="tpo_k"):
        CoupleRequest.model_validate({"inputs": {"first": "a"}, "tpo_k": 1})


def test_a_wrong_item_fails_alone_and_names_its_field() -> None:
    good, wrong, unknown = read([{"first": "a"}, {"first": 1}, {"first": "a", "third": "b"}])
    assert good == Couple(first="a")
    assert isinstance(wrong, InvalidInput)
    assert wrong.field == "first"
    assert isinstance(unknown, InvalidInput)
    assert unknown.field == "third"


def test_an_item_that_was_refused_before_stays_so() -> None:
    error = InvalidInput("should be a text")
    assert read([error]) == [error]


def test_of_an_item_with_endless_fields_only_the_first_are_looked_at() -> None:
    (error,) = read([{f"field{number}": 0 for number in range(1000)}])
    assert isinstance(error, InvalidInput)
    assert error.field in {"first", *(f"field{number}" for number in range(MAX_ITEM_FIELDS))}


@pytest.mark.parametrize(("inputs", "items"), [("a", ["a"]), (["a"], ["a"]), ([], []), ({"a": 1}, [{"a": 1}])])
def test_one_item_is_a_list_of_it(inputs: Any, items: list[Any]) -> None:
    assert as_list(inputs) == items


def test_a_request_that_takes_no_list_is_a_mistake_of_its_maker() -> None:
    class Lone(BaseModel):
        inputs: str | int

    with pytest.raises(TypeError, match="Lone"):
        items_of(Lone)


def test_every_native_request_takes_a_list_of_items_within_their_limits() -> None:
    for route in installed_tasks().routes:
        assert items_of(route.request).validate_python([]) == []
        assert not isinstance(items_of(route.request).validate_python([None])[0], str)


def test_types_are_joined_each_once() -> None:
    assert union([str, int, str]) == str | int

"""The errors that the docs page shows are those that the service gives."""

from __future__ import annotations

import pytest

from app.api.error_formats import HUGGING_FACE, TEI
from app.api.errors import STATUS, status_of
from app.api.openapi_responses import EVERY_PREDICTION, EXAMPLES, MEANING, openapi_responses
from app.core import errors


def test_every_status_that_has_a_meaning_has_an_example_and_the_other_way_round() -> None:
    assert MEANING.keys() == EXAMPLES.keys()
    assert set(STATUS.values()) <= MEANING.keys()
    assert set(EVERY_PREDICTION) <= MEANING.keys()


@pytest.mark.parametrize("error", [entry for entry in STATUS if entry.type in {kind for kind, _ in EXAMPLES.values()}])
def test_an_example_has_the_status_that_its_type_gets(error: type[errors.HooperError]) -> None:
    shown = {kind: status for status, (kind, _) in EXAMPLES.items()}
    instance = error.__new__(error)
    assert shown[error.type] in {status_of(instance), status_of(instance, TEI)}


def test_each_protocol_shows_its_own_shape() -> None:
    native = openapi_responses(422)[422]["content"]["application/problem+json"]
    assert native["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert native["example"]["status"] == 422
    hub = openapi_responses(422, error_format=HUGGING_FACE)[422]["content"]["application/json"]
    assert hub["example"] == {"error": "inputs: must not be empty"}


def test_only_a_full_queue_says_when_to_come_again() -> None:
    responses = openapi_responses(*EVERY_PREDICTION)
    assert [status for status, response in responses.items() if "Retry-After" in response.get("headers", {})] == [429]

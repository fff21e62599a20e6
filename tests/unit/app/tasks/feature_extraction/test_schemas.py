"""`POST /v1/embed`: what it takes and gives."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from pydantic import ValidationError

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.feature_extraction.schemas import EmbedRequest, EmbedResult
from app.tasks.feature_extraction.task import Embedding, EmbedItem, EmbedOptions


def test_a_text_and_a_list_of_texts_are_items() -> None:
    assert EmbedRequest(inputs="a").items() == [EmbedItem("a")]
    body = {"inputs": ["a", 7], "normalize": False, "dimensions": 8, "prompt": "query", "encoding": "base64"}
    request = EmbedRequest.model_validate(body)
    good, wrong = request.items()
    assert good == EmbedItem("a")
    assert isinstance(wrong, InvalidInput)
    assert request.options() == EmbedOptions(normalize=False, dimensions=8, prompt="query", vector_encoding="base64")


@pytest.mark.parametrize(
    "wrong",
    [{"dimensions": 0}, {"encoding": "int8"}, {"normalize": "yes"}, {"prompt": "a" * 2001}, {"top_k": 1}, {"inputs": []}],
)
def test_other_fields_and_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EmbedRequest.model_validate({"inputs": "a", **wrong})


def test_a_result_has_the_vector_as_it_was_wished() -> None:
    numbers = EmbedResult.of(Result(Embedding([0.5, -0.25]), 3, True))
    assert numbers.model_dump() == {"embedding": [0.5, -0.25], "num_tokens": 3, "truncated": True}
    coded = EmbedResult.of(Result(Embedding([0.5, -0.25], "base64"), 3, True))
    assert isinstance(coded.embedding, str)
    assert np.frombuffer(base64.b64decode(coded.embedding), "<f4").tolist() == [0.5, -0.25]

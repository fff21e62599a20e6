"""Options of a text that is to be written, as requests have them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from pydantic import ValidationError

from app.tasks.generation import NOT_COMMON, GenerationOptions, GenerationRequest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", 10**30),
        ("max_new_tokens", 1.5),
        ("max_new_tokens", True),
        ("temperature", -1),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("top_p", 1.1),
        ("seed", -1),
        ("seed", 2**32),
        ("num_beams", 17),
        ("early_stopping", "always"),
        ("stop", ["x" * 257]),
        ("stop", [""]),
        ("stop", ["x"] * 17),
        ("stop", "x"),
        ("bad_words", ["x"] * 65),
        ("num_return_sequences", 17),
        ("stream", 1),
        ("max_length", 5),
    ],
)
def test_an_option_out_of_its_range_or_of_no_name_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        GenerationRequest.model_validate({"inputs": "a", field: value})
    assert refused.value.errors()[0]["loc"][0] == field


def test_every_option_of_a_request_reaches_the_task() -> None:
    values = {
        "max_new_tokens": 9, "min_new_tokens": 1, "num_beams": 2, "early_stopping": "never", "length_penalty": -1,
        "no_repeat_ngram_size": 3, "repetition_penalty": 1.2, "temperature": 0, "top_k": 5, "top_p": 0.9, "min_p": 0.1,
        "seed": 4, "stop": ["a", "b"], "bad_words": ["c"], "num_return_sequences": 2,
    }  # fmt: skip
    options = GenerationRequest.model_validate({"inputs": "a", **values}).generation(GenerationOptions)
    others = {name: value for name, value in asdict(GenerationOptions()).items() if name in NOT_COMMON}
    assert asdict(options) == {**values, "stop": ("a", "b"), "bad_words": ("c",), **others}

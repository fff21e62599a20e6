"""Texts from texts over Hugging Face's protocol: parameters of text-generation-inference, and how a text ended."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.requests import Service

TEXT = "the film was good."
PATH = "/models/text2text-generation"


@pytest.mark.parametrize(
    ("parameters", "text", "reason"),
    [
        ({}, TEXT, "eos_token"),
        ({"max_new_tokens": 2, "details": True, "seed": 4}, "the film", "length"),
        ({"stop": ["was"], "return_full_text": False}, "the film ", "stop_sequence"),
        ({"generate_parameters": {"max_new_tokens": 1}, "temperature": 0.5, "do_sample": True}, "the", "length"),
    ],
)
async def test_parameters_may_stand_beside_generate_parameters(
    echo_service: Service, parameters: dict[str, Any], text: str, reason: str
) -> None:
    response = await echo_service.client.post(PATH, json={"inputs": TEXT, "parameters": parameters})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["generated_text"], answer["details"]["finish_reason"]) == (text, reason)


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ({"top_p": 7.5}, "parameters.top_p"),
        ({"generate_parameters": {"top_p": 7.5}}, "parameters.generate_parameters.top_p"),
        ({"generate_parameters": {"nonsense": 1}}, "parameters.generate_parameters.nonsense"),
    ],
)
async def test_an_error_names_the_place(echo_service: Service, parameters: dict[str, Any], place: str) -> None:
    response = await echo_service.client.post(PATH, json={"inputs": TEXT, "parameters": parameters})
    assert response.status_code == 422
    assert response.json()["error"].startswith(f"{place}: ")

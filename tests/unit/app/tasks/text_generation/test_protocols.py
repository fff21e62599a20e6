"""Continued texts over Hugging Face's protocol and text-generation-inference's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.requests import Service

TEXT = "the film was good."
PATH = "/models/text-generation"


@pytest.mark.parametrize(
    ("parameters", "text", "reason"),
    [
        ({}, " the film was good.", "eos_token"),
        ({"return_full_text": True, "max_new_tokens": 2}, f"{TEXT} the film", "length"),
        ({"return_full_text": False, "stop": ["was"]}, " the film ", "stop_sequence"),
    ],
)
async def test_the_text_may_come_back_with_what_continues_it(
    echo_service: Service, parameters: dict[str, Any], text: str, reason: str
) -> None:
    response = await echo_service.client.post(PATH, json={"inputs": TEXT, "parameters": parameters})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["generated_text"], answer["details"]["finish_reason"]) == (text, reason)


async def test_a_stream_tells_the_full_text_too(echo_service: Service) -> None:
    body = {"inputs": TEXT, "parameters": {"return_full_text": True, "max_new_tokens": 3}, "stream": True}
    response = await echo_service.client.post(PATH, json=body)
    told = [json.loads(line.removeprefix("data:")) for line in response.text.splitlines() if line.startswith("data:")]
    assert told[-1]["generated_text"] == "".join(event["token"]["text"] for event in told) == f"{TEXT} the film was"


async def test_what_is_no_flag_is_refused(echo_service: Service) -> None:
    response = await echo_service.client.post(PATH, json={"inputs": TEXT, "parameters": {"return_full_text": "yes"}})
    assert response.status_code == 422
    assert "return_full_text" in response.json()["error"]


async def test_the_default_of_generate_is_a_model_that_continues(echo_service: Service) -> None:
    native = (await echo_service.client.post("/v1/generate", json={"inputs": TEXT, "max_new_tokens": 1})).json()
    assert (native["model"]["name"], native["results"][0]["text"]) == ("text-generation", " the")
    answer = (await echo_service.client.post("/generate", json={"inputs": TEXT, "parameters": {"max_new_tokens": 1}})).json()
    assert answer["generated_text"] == " the"


async def test_what_a_text_is_held_to_counts_here_too(echo_service: Service) -> None:
    body = {"model": "text-generation", "inputs": TEXT, "regex": "[", "max_new_tokens": 1}
    response = await echo_service.client.post("/v1/generate", json=body)
    assert response.status_code in (404, 422), "it would be ignored; without the library for it, 404"

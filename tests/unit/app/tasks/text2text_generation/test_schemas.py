"""Texts that obey a schema, an expression or a list, over the native route."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.requests import Service

SCHEMA = {"type": "object", "properties": {"a": {"enum": ["good", "bad"]}}, "required": ["a"], "additionalProperties": False}

LOOK_AROUND = "regex: cannot be followed: look-around, including look-ahead and look-behind, is not supported"


async def ask(service: Service, **body: Any) -> Any:
    return await service.client.post(
        "/v1/generate", json={"inputs": "the film was good", "model": "text2text-generation", **body}
    )


async def test_a_text_is_what_it_has_to_be(echo_service: Service) -> None:
    answer = await ask(echo_service, schema=SCHEMA)
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert (json.loads(result["text"])["a"], result["finish_reason"]) == ("bad", "stop")
    (result,) = (await ask(echo_service, choices=["the bad film", "a film"])).json()["results"]
    assert (result["text"], result["finish_reason"]) == ("the bad film", "stop")
    (result,) = (await ask(echo_service, regex="the (film )+was bad")).json()["results"]
    assert (result["text"], result["finish_reason"]) == ("the film was bad", "stop")


async def test_what_is_cut_says_so(echo_service: Service) -> None:
    (result,) = (await ask(echo_service, schema=SCHEMA, max_new_tokens=3)).json()["results"]
    assert result["finish_reason"] == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(result["text"])


async def test_it_is_streamed_as_well(echo_service: Service) -> None:
    text = (await ask(echo_service, schema=SCHEMA, stream=True)).text
    pieces = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    *tokens, done = pieces
    assert "".join(token["text"] for token in tokens) == done["results"][0]["text"]
    assert json.loads(done["results"][0]["text"]) == {"a": "bad"}


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"schema": {"not": {}}}, 'schema: cannot be followed: Unimplemented keys: ["not"]'),
        (
            {"regex": "(?<=a)b"},
            "regex: cannot be followed: look-around, including look-ahead and look-behind, is not supported",
        ),
        ({"schema": SCHEMA, "regex": "a"}, "regex: does not go with schema; send one of them"),
        ({"schema": SCHEMA, "num_beams": 2}, "schema: does not go with beams, of which there are 2; send num_beams: 1"),
        ({"choices": ["a"], "stop": ["a"]}, "stop: does not go with choices, which says where the text ends"),
    ],
)
async def test_what_cannot_be_is_refused(echo_service: Service, options: dict[str, Any], detail: str) -> None:
    answer = await ask(echo_service, **options)
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)

"""Routes of services that write: what is asked in other words, what is told in other shapes, whole and piece by piece."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.echo_writer import EchoEngine, echoing
from tests.support.requests import Service

TEXT = "the film was good."
CONTINUED = f" {TEXT}"
"""What the model that continues texts says again: its first word begins with a blank."""
LONG = " ".join([TEXT] * 20)
MODEL = "text2text-generation"


@pytest.fixture
def service(echo_service: Service) -> Service:
    return echo_service


async def post(service: Service, path: str, body: Any, status: int = 200) -> httpx.Response:
    response = await service.client.post(path, json=body)
    assert response.status_code == status, response.text
    return response


async def streamed(service: Service, path: str, body: Any) -> list[Any]:
    response = await post(service, path, body)
    assert response.headers["content-type"].startswith("text/event-stream")
    return [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n") if line]


# --- text-generation-inference


async def test_generate_asks_the_default_model_that_writes_texts(service: Service) -> None:
    assert (await post(service, "/generate", {"inputs": TEXT})).json() == {"generated_text": CONTINUED, "details": None}
    body = {"inputs": TEXT, "parameters": {"details": True, "max_new_tokens": 2}}
    assert (await post(service, "/generate", body)).json() == {
        "generated_text": " the film",
        "details": {"finish_reason": "length", "generated_tokens": 2, "prefill": [], "tokens": []},
    }


async def test_where_none_continues_texts_generate_asks_one_that_rewrites_them() -> None:
    async with echoing("translation", MODEL) as (service, _):
        assert (await post(service, "/generate", {"inputs": TEXT})).json()["generated_text"] == TEXT


@pytest.mark.parametrize(("stop", "reason"), [([], "eos_token"), (["was"], "stop_sequence")])
async def test_it_says_how_a_text_ended(service: Service, stop: list[str], reason: str) -> None:
    body = {"inputs": TEXT, "parameters": {"details": True, "stop": stop}}
    assert (await post(service, "/generate", body)).json()["details"]["finish_reason"] == reason


async def test_a_stream_has_a_token_for_each_piece_and_the_whole_text_with_the_last(service: Service) -> None:
    *pieces, last = await streamed(service, "/generate_stream", {"inputs": TEXT})
    assert len(pieces) > 3
    assert "".join(piece["token"]["text"] for piece in pieces) == CONTINUED
    assert all(piece["generated_text"] is None and piece["details"] is None for piece in pieces)
    assert (last["generated_text"], last["details"]["finish_reason"]) == (CONTINUED, "eos_token")
    assert [piece["index"] for piece in (*pieces, last)] == list(range(1, len(pieces) + 2))


async def test_of_beams_the_last_token_is_the_text(service: Service) -> None:
    (only,) = await streamed(service, "/generate_stream", {"inputs": TEXT, "parameters": {"num_beams": 2}})
    assert only["token"]["text"] == only["generated_text"] == CONTINUED


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", f"/models/{MODEL}"])
@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"max_new_tokens": 0}, "parameters.max_new_tokens: "),
        ({"best_of": 2}, "best_of: is not supported here; leave it out"),
        ({"top_p": 2.0}, "parameters.top_p: "),
        ({"do_sample": "yes"}, "do_sample: "),
        ({"inputs": "another text"}, "parameters.inputs: is not a field that is known here"),
        ({"grammar": {"type": "regex", "value": "("}}, "cannot be followed"),
        ({"grammar": {"type": "json", "value": {"not": {}}}}, "cannot be followed"),
    ],
)
async def test_a_parameter_that_is_none_is_refused_by_its_name(
    service: Service, path: str, parameters: dict[str, Any], problem: str
) -> None:
    error = (await post(service, path, {"inputs": TEXT, "parameters": parameters}, 422)).json()
    assert problem in error["error"]
    if path.startswith("/generate"):
        assert error["error_type"] == "validation"


TRITON = f"/v2/models/{MODEL}/generate"
GIVEN = "parameters.generate_parameters"
TENSORS = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}]}


@pytest.mark.parametrize(
    ("path", "sent", "place"),
    [
        ("/generate", {"max_new_tokens": 3, "min_new_tokens": 5}, "parameters.min_new_tokens"),
        ("/generate_stream", {"top_p": 0.5, "temperature": 0}, "parameters.top_p"),
        ("/generate", {"grammar": {"type": "regex", "value": "("}}, "parameters.grammar"),
        ("/generate", {"model": "another"}, "parameters.model"),
        (f"{TRITON}_stream", {"max_tokens": 8000}, "parameters.max_tokens"),
        (TRITON, {"max_tokens": "5"}, "parameters.max_tokens"),
        (TRITON, {"max_new_tokens": 8000}, "parameters.max_new_tokens"),
        (f"/v2/models/{MODEL}/infer", {"num_return_sequences": 2}, "parameters.num_return_sequences"),
        (f"/models/{MODEL}", {"max_length": 8000}, "parameters.max_length"),
        (f"/models/{MODEL}", {"generate_parameters": {"max_length": 4, "min_length": 5}}, f"{GIVEN}.min_length"),
        ("/models/translation", {"src_lang": "xx"}, "parameters.src_lang"),
    ],
)  # fmt: skip
async def test_an_option_that_the_model_refuses_is_called_as_it_was_sent(
    service: Service, path: str, sent: dict[str, Any], place: str
) -> None:
    text = {"text_input": TEXT} if path.startswith(TRITON) else TENSORS if path.endswith("infer") else {"inputs": TEXT}
    error = (await post(service, path, {**text, "parameters": sent}, 422)).json()
    assert error["error"].startswith(f"{place}: ")


@pytest.mark.parametrize("path", ["/generate", f"/models/{MODEL}"])
async def test_a_text_is_what_a_grammar_says(service: Service, path: str) -> None:
    for grammar in ({"type": "regex", "value": "(good|bad)"}, {"type": "json", "value": {"enum": ["good", "bad"]}}):
        answer = (await post(service, path, {"inputs": TEXT, "parameters": {"grammar": grammar}})).json()
        assert answer["generated_text"].strip('"') in ("good", "bad")


async def test_parameters_that_say_nothing_are_taken(service: Service) -> None:
    nothing = {
        "best_of": None,
        "watermark": False,
        "return_full_text": False,
        "decoder_input_details": False,
        "typical_p": None,
    }
    assert (await post(service, "/generate", {"inputs": TEXT, "parameters": nothing})).json()["generated_text"] == CONTINUED


async def test_a_long_text_is_refused_with_advice_in_the_protocols_words(service: Service) -> None:
    error = (await post(service, "/generate", {"inputs": LONG}, 413)).json()["error"]
    assert error.endswith('send it with "parameters": {"truncation": "truncate"}')
    body = {"inputs": LONG, "parameters": {"truncation": "truncate", "max_new_tokens": 3}}
    assert (await post(service, "/generate", body)).json()["generated_text"] == " the film was"


async def test_without_a_model_that_writes_texts_it_says_how_to_add_one() -> None:
    async with echoing("translation") as (service, _):
        error = (await post(service, "/generate", {"inputs": TEXT}, 404)).json()["error"]
        assert error == "no loaded model does text-generation or text2text-generation; `hooper models add` adds one"


# --- Hugging Face


@pytest.mark.parametrize("model", ["translation", "abstractive-summarization", MODEL])
async def test_a_model_asked_by_its_name_streams_in_the_same_shape(service: Service, model: str) -> None:
    *pieces, last = await streamed(service, f"/models/{model}", {"inputs": TEXT, "stream": True})
    assert "".join(piece["token"]["text"] for piece in pieces) == TEXT == last["generated_text"]
    error = (await post(service, f"/models/{model}", {"inputs": [TEXT], "stream": True}, 422)).json()["error"]
    assert error == "stream: takes one input, not a list"


# --- Triton


PATHS = [f"/v2/models/{MODEL}/generate", f"/v2/models/{MODEL}/versions/1/generate"]


@pytest.mark.parametrize("path", PATHS)
async def test_the_generate_extension_answers_and_streams(service: Service, path: str) -> None:
    body = {"text_input": TEXT, "id": "7", "parameters": {"max_tokens": 3, "details": True}}
    whole = (await post(service, path, body)).json()
    assert whole == {
        "text_output": "the film was", "model_name": MODEL, "model_version": "1", "id": "7",
        "details": {"finish_reason": "length", "logprobs": []},
    }  # fmt: skip
    *pieces, last = await streamed(service, f"{path}_stream", body)
    assert "".join(piece["text_output"] for piece in pieces) == "the film was"
    assert last["details"]["finish_reason"] == "length"
    assert "details" not in pieces[0]


async def test_tensors_are_answered_too(service: Service) -> None:
    for model, output in (("translation", "translation"), ("abstractive-summarization", "summary"), (MODEL, "generated")):
        body = {
            "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": [TEXT, "the film"]}],
            "parameters": {"max_new_tokens": 2},
        }
        (tensor,) = (await post(service, f"/v2/models/{model}/infer", body)).json()["outputs"]
        assert (tensor["name"], tensor["data"]) == (output, ["the film", "the film"])
        body["parameters"] = {"stream": True}
        assert "stream" in (await post(service, f"/v2/models/{model}/infer", body, 422)).json()["error"]


async def test_errors_have_the_protocols_shape(service: Service) -> None:
    error = (await post(service, PATHS[0], {"text_input": " "}, 422)).json()
    assert error == {"error": "text_input: must not be empty"}
    error = (await post(service, "/v2/models/nobody/generate", {"text_input": "a"}, 404)).json()
    assert "nobody" in error["error"]


async def test_an_engine_that_fails_on_the_way_ends_a_stream_with_its_error() -> None:
    async with echoing(MODEL) as (service, engine):
        error = await _failing(service, engine)
        assert error["error_type"] == "generation"
        assert error["error"]


async def _failing(service: Service, engine: EchoEngine) -> Any:
    forward = engine.forward

    async def fail_later(batch: Any) -> Any:
        if engine.num_steps == 2:
            raise RuntimeError("the secret text")
        return await forward(batch)

    engine.forward = fail_later  # type: ignore[method-assign]
    *_, last = await streamed(service, "/generate_stream", {"inputs": TEXT})
    assert "secret" not in str(last)
    return last

"""How to write, in the words of Hugging Face's pipelines and of text-generation-inference."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.core.errors import InvalidInput
from app.tasks.hub_generation import native_values, pipeline_parameters, sent_name
from app.tasks.registry import installed_tasks
from tests.support.requests import Service

SENT = {"max_length": 130, "min_length": 30, "num_beams": 2, "do_sample": False}
TEXT = "the film was good."
MODEL = "text2text-generation"


async def post(service: Service, path: str, body: Any, status: int = 200) -> Any:
    response = await service.client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


@pytest.mark.parametrize(
    ("parameters", "values"),
    [
        ({"max_length": 10, "min_length": 3}, {"max_new_tokens": 9, "min_new_tokens": 2}),
        ({"max_length": 10, "max_new_tokens": 5}, {"max_new_tokens": 5}),
        ({"do_sample": True}, {"temperature": 1.0}),
        ({"do_sample": True, "temperature": 0.5}, {"temperature": 0.5}),
        ({"top_k": 5}, {"top_k": 5, "temperature": 1.0}),
        ({"do_sample": False, "temperature": 0.5, "top_p": 0.9}, {"temperature": 0.0}),
        ({"num_beams": 4, "top_k": None, "watermark": False}, {"num_beams": 4}),
        ({"grammar": {"type": "regex", "value": "a+"}}, {"regex": "a+"}),
        ({"grammar": {"type": "json", "value": {"type": "object"}}}, {"schema": {"type": "object"}}),
        ({"grammar": {"type": "json", "value": '{"type": "object"}'}}, {"schema": {"type": "object"}}),
        ({"grammar": {"type": "json_schema", "value": {"name": "a", "schema": {}}}}, {"schema": {}}),
    ],
)
def test_parameters_mean_what_they_mean_there(parameters: dict[str, Any], values: dict[str, Any]) -> None:
    assert native_values(parameters) == values


@pytest.mark.parametrize("parameters", [{"best_of": 2}, {"max_length": 1}, {"min_length": True}, {"do_sample": 1}])
def test_what_cannot_be_followed_is_refused_by_its_name(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        native_values(parameters)
    assert refused.value.field in parameters


@pytest.mark.parametrize(
    ("grammar", "field"),
    [
        ({"a": 1}, "grammar.type"),
        ("a+", "grammar"),
        ({"type": "regex", "value": {}}, "grammar.value"),
        ({"type": "json", "value": "{"}, "grammar.value"),
        ({"type": "json", "value": "[" * 100_000}, "grammar.value"),
        ({"type": "json_schema", "value": {"name": "a"}}, "grammar.value"),
    ],
)
def test_a_grammar_that_is_none_is_refused_by_its_name(grammar: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        native_values({"grammar": grammar})
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("model", "key"),
    [("translation", "translation_text"), ("abstractive-summarization", "summary_text"), (MODEL, "generated_text")],
)
async def test_a_model_that_writes_answers_in_the_specifications_shape(echo_service: Service, model: str, key: str) -> None:
    assert (await post(echo_service, f"/models/{model}", {"inputs": TEXT}))[key] == TEXT
    body = {"inputs": [TEXT, "the film"], "parameters": {"generate_parameters": {"max_new_tokens": 2}}}
    assert [answer[key] for answer in (await post(echo_service, f"/models/{model}", body))] == ["the film", "the film"]


async def test_lengths_are_counted_as_transformers_counts_them(echo_service: Service) -> None:
    body = {"inputs": TEXT, "parameters": {"generate_parameters": {"max_length": 3, "do_sample": False, "top_p": 0.9}}}
    assert (await post(echo_service, "/models/translation", body))["translation_text"] == "the film"
    body = {"inputs": TEXT, "parameters": {"generate_parameters": {"max_length": 1}}}
    problem = (await post(echo_service, "/models/translation", body, 422))["error"]
    assert problem.startswith("parameters.generate_parameters.max_length: should be a whole number above 1")


@pytest.mark.parametrize("task", ["translation", "abstractive-summarization", "text2text-generation"])
def test_what_a_pipeline_is_told_stands_beside_generate_parameters_too(task: str) -> None:
    codec = installed_tasks()[task].hugging_face
    assert codec is not None
    assert set(pipeline_parameters("")) <= set(codec.parameters)
    given = SimpleNamespace(**(dict.fromkeys(codec.parameters) | SENT))
    options = codec.options(given)
    assert (options.max_new_tokens, options.min_new_tokens, options.num_beams, options.temperature) == (129, 29, 2, 0.0)
    given.max_length = 10**9
    with pytest.raises(InvalidInput) as refused:
        codec.options(given)
    assert refused.value.field == "parameters.max_length"


def test_a_length_is_called_as_it_was_sent() -> None:
    assert sent_name("max_new_tokens", {"max_length": 5}) == "max_length"
    assert sent_name("max_new_tokens", {"max_length": 5, "max_new_tokens": 9}) == "max_new_tokens"

"""OpenAI's API for texts that are continued and for conversations, over a model that says again what was said last."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.echo_writer import echoing
from tests.support.requests import Service

TASK = "text-generation"
HELLO = {"role": "user", "content": "the film was good"}
TOOL = {"type": "function", "function": {"name": "see", "parameters": {"type": "object"}}}
UNREADABLE = {"type": "function", "function": {"name": "see", "parameters": {"not": {}}}}
CALL = '<tool_call>\n{"name": "see", "arguments": {"a": "é"}}\n</tool_call>'


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def service() -> AsyncIterator[Service]:
    async with echoing(TASK, max_length=400) as (running, _):
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="session")


async def chat(service: Service, *messages: Any, path: str = "/v1/chat/completions", status: int = 200, **options: Any) -> Any:
    body = {"messages": list(messages)} if messages else {}
    response = await service.client.post(path, json={**body, **options})
    assert response.status_code == status, response.text
    return response


async def complete(service: Service, prompt: Any, status: int = 200, **options: Any) -> Any:
    return await chat(service, path="/v1/completions", status=status, prompt=prompt, **options)


def schema_format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


def called(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def chunks(response: Any) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_a_conversation_goes_on(service: Service) -> None:
    answer = (await chat(service, {"role": "assistant", "content": "no"}, HELLO, model=TASK)).json()
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": " the film was good", "refusal": None}
    assert (choice["finish_reason"], answer["object"], answer["model"]) == ("stop", "chat.completion", f"{TASK}/1")
    details = {"prompt_tokens_details": {"cached_tokens": 0}}
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9, **details}


async def test_a_stream_says_the_same_in_pieces_and_what_it_cost(service: Service) -> None:
    told = chunks(await chat(service, HELLO, stream=True, stream_options={"include_usage": True}))
    assert told[0]["choices"][0]["delta"] == {"role": "assistant", "content": " the"}
    assert "".join(part["choices"][0]["delta"].get("content", "") for part in told[:-1]) == " the film was good"
    assert [part["choices"][0]["finish_reason"] for part in told[:-1]] == [None, None, None, None, "stop"]
    assert (told[-1]["choices"], told[-1]["usage"]["completion_tokens"]) == ([], 5)
    assert len({part["id"] for part in told}) == 1
    assert {part["usage"] for part in told[:-1]} == {None}
    every = {"include_usage": True, "continuous_usage_stats": True}
    counted = chunks(await chat(service, HELLO, stream=True, stream_options=every))
    assert [part["usage"]["completion_tokens"] for part in counted] == [1, 2, 3, 4, 5, 5]
    assert {part["usage"]["prompt_tokens"] for part in counted} == {4}


async def test_an_error_before_the_first_piece_is_answered_as_any_other(service: Service) -> None:
    system = {"role": "system", "content": "Be brief."}
    for stream in (False, True):
        error = (await chat(service, system, HELLO, status=400, stream=stream)).json()["error"]
        assert (error["message"], error["param"], error["type"]) == (
            "messages: no system here", "messages", "invalid_request_error"
        )  # fmt: skip


async def test_prompts_are_texts_lists_of_them_or_token_ids(service: Service) -> None:
    one = (await complete(service, "the film", max_tokens=1)).json()
    assert [(choice["text"], choice["finish_reason"]) for choice in one["choices"]] == [(" the", "length")]
    ids = [260, 261]  # the film
    for prompt, texts in (
        (["the film", "the film was bad"], [" the film", " the film was bad"]),
        (ids, [" the film"]),
        ([ids, ids[:1]], [" the film", " the"]),
        (ids * 150, None),
    ):
        answer = await service.client.post("/v1/completions", json={"prompt": prompt})
        assert answer.status_code == 200, answer.text
        choices = answer.json()["choices"]
        assert [choice["index"] for choice in choices] == list(range(len(choices)))
        assert texts is None or [choice["text"] for choice in choices] == texts
    options = {"n": 2, "temperature": 1, "stream": True, "stream_options": {"include_usage": True}}
    streamed = chunks(await complete(service, ["the film", "the film was bad"], **options))
    for index in range(4):
        parts = [part["choices"][0] for part in streamed[:-1] if part["choices"][0]["index"] == index]
        assert "".join(part["text"] for part in parts) == (" the film" if index < 2 else " the film was bad")
        assert [part["finish_reason"] for part in parts][-2:] == [None, "stop"]
    assert streamed[0]["choices"][0]["index"] < 2 < max(part["choices"][0]["index"] for part in streamed[:8])  # at once
    assert streamed[-1]["usage"]["total_tokens"] == 3 + 5 + 2 * 3 + 2 * 5
    streamed = chunks(await complete(service, "the film", stream=True))
    assert "".join(part["choices"][0]["text"] for part in streamed) == " the film"
    assert streamed[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_text_ends_where_it_is_told_to(service: Service) -> None:
    for stop in ("was", ["x", "was"]):
        assert (await complete(service, "the film was good", stop=stop)).json()["choices"][0]["text"] == " the film "
    cut = (await chat(service, HELLO, max_tokens=9, max_completion_tokens=2)).json()["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == (" the film", "length")


async def test_several_texts_are_drawn(service: Service) -> None:
    answer = (await chat(service, HELLO, n=3, temperature=0.8, top_p=0.9, seed=-4)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    details = {"prompt_tokens_details": {"cached_tokens": 0}}
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 15, "total_tokens": 19, **details}


async def test_how_likely_tokens_were_is_told(service: Service) -> None:
    answer = (await chat(service, HELLO, logprobs=True, top_logprobs=2, max_tokens=2)).json()
    first, second = answer["choices"][0]["logprobs"]["content"]
    assert (first["token"], first["logprob"], first["bytes"]) == (" the", -0.5, list(b" the"))
    assert [(top["token"], top["logprob"]) for top in second["top_logprobs"]] == [(" film", -0.5), ("</s>", -1.5)]
    legacy = (await complete(service, "the film", logprobs=1, max_tokens=2)).json()["choices"][0]["logprobs"]
    assert legacy == {
        "tokens": [" the", " film"], "token_logprobs": [-0.5, -0.5], "text_offset": [0, 4],
        "top_logprobs": [{" the": -0.5}, {" film": -0.5}],
    }  # fmt: skip


async def test_of_a_stream_every_text_is_told_and_how_likely_its_tokens_were(service: Service) -> None:
    options = {"n": 2, "temperature": 1, "stop": "was"}
    whole = (await chat(service, HELLO, logprobs=True, top_logprobs=1, **options)).json()["choices"]
    told = [
        part["choices"][0] for part in chunks(await chat(service, HELLO, logprobs=True, top_logprobs=1, stream=True, **options))
    ]
    for index, choice in enumerate(whole):
        parts = [part for part in told if part["index"] == index]
        assert parts[0]["delta"]["role"] == "assistant"
        assert "".join(part["delta"].get("content", "") for part in parts) == choice["message"]["content"] == " the film "
        assert [score for part in parts for score in (part["logprobs"] or {"content": []})["content"]] == choice["logprobs"][
            "content"
        ]
        assert [part["finish_reason"] for part in parts][-1] == "stop"
    assert [part["index"] for part in told[:2]] == [0, 1]  # both are written at the same time
    legacy = {**options, "logprobs": 1}
    whole = (await complete(service, HELLO["content"], **legacy)).json()["choices"]
    told = [part["choices"][0] for part in chunks(await complete(service, HELLO["content"], stream=True, **legacy))]
    for index, choice in enumerate(whole):
        parts = [part for part in told if part["index"] == index]
        assert "".join(part["text"] for part in parts) == choice["text"]
        for name, values in choice["logprobs"].items():
            assert [value for part in parts for value in (part["logprobs"] or {name: []})[name]] == values


async def test_a_prompt_stands_before_its_text_where_that_is_asked_for(service: Service) -> None:
    for prompt in ("the film", [260, 261]):
        (choice,) = (await complete(service, prompt, echo=True)).json()["choices"]
        told = [part["choices"][0]["text"] for part in chunks(await complete(service, prompt, echo=True, stream=True))]
        assert choice["text"] == "".join(told)
        assert choice["text"].split() == ["the", "film"] * 2
    drawn = (await complete(service, "the", echo=True, n=2, best_of=2, temperature=1)).json()["choices"]
    assert [choice["text"] for choice in drawn] == ["the the"] * 2


async def test_an_answer_obeys_its_format(service: Service) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    for stream in (False, True):
        answer = await chat(service, HELLO, response_format=form, stream=stream)
        if stream:
            text = "".join(part["choices"][0]["delta"].get("content", "") for part in chunks(answer))
        else:
            text = answer.json()["choices"][0]["message"]["content"]
        assert json.loads(text)["a"] in (True, False)
    anything = (await chat(service, HELLO, response_format={"type": "json_object"}, max_tokens=20)).json()
    assert anything["choices"][0]["message"]["content"].startswith("{")


def sent_by_langchain(**own: Any) -> dict[str, Any]:
    """As `langchain-openai` 1.7.4 sends it, recorded: with what it needs, it would be a dozen packages more."""
    return {"model": TASK, "stream": False, "max_completion_tokens": 300, "temperature": 0.0, **own}


async def test_langchains_classes_find_what_they_read(service: Service) -> None:
    river = {
        "properties": {"is_long": {"title": "Is Long", "type": "boolean"}}, "required": ["is_long"], "title": "River",
        "type": "object", "additionalProperties": False,
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"schema": river, "name": "River", "strict": True}}
    (choice,) = (await chat(service, HELLO, **sent_by_langchain(response_format=form))).json()["choices"]
    assert (choice["message"]["refusal"], set(json.loads(choice["message"]["content"]))) == (None, {"is_long"})
    told = chunks(await chat(service, HELLO, **sent_by_langchain(stream=True)))
    assert "".join(part["choices"][0]["delta"].get("content", "") for part in told) == " the film was good"
    legacy = {
        "frequency_penalty": 0,
        "logprobs": None,
        "max_tokens": 6,
        "n": 1,
        "presence_penalty": 0,
        "seed": None,
        "top_p": 1,
    }
    answer = (await complete(service, ["the film", "was good"], model=TASK, temperature=0.0, **legacy)).json()
    assert [choice["text"] for choice in answer["choices"]] == [" the film", " was good"]
    tool = sent_by_langchain(
        tools=[{"type": "function", "function": {"name": "River", "description": "", "parameters": river}}],
        parallel_tool_calls=False,
        tool_choice=called("River"),
        ls_structured_output_format={"kwargs": {"method": "function_calling"}},
    )
    del tool["ls_structured_output_format"]  # is for LangSmith, and not sent
    (choice,) = (await chat(service, HELLO, **tool)).json()["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], set(json.loads(call["function"]["arguments"]))) == ("River", {"is_long"})


async def test_a_call_is_forced_where_that_is_asked_for(service: Service) -> None:
    see = {"type": "function", "function": {"name": "see", "parameters": {"properties": {"a": {"enum": ["good", 1]}}}}}
    for choice, parallel, names in (("required", False, {"see", "go"}), (called("go"), None, {"go"})):
        options = {"tools": [see, {"type": "function", "function": {"name": "go"}}], "parallel_tool_calls": parallel}
        told = (await chat(service, HELLO, **options, tool_choice=choice, max_tokens=100)).json()["choices"][0]
        (call,) = told["message"]["tool_calls"]
        assert call["function"]["name"] in names
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
        assert (told["message"]["content"], told["finish_reason"]) == (None, "tool_calls")
        streamed = chunks(await chat(service, HELLO, **options, tool_choice=choice, max_tokens=100, stream=True))
        assert [part["choices"][0]["finish_reason"] for part in streamed] == [None, "tool_calls"]
        assert streamed[0]["choices"][0]["delta"]["tool_calls"][0]["function"] == call["function"]
    cut = (await chat(service, HELLO, **options, tool_choice=called("see"), max_tokens=50)).json()["choices"][0]
    assert (cut["finish_reason"], cut["message"]["tool_calls"][0]["function"]["name"]) == ("length", "see")
    form = schema_format({"const": "good"})
    said = (await chat(service, HELLO, tools=[see], response_format=form)).json()["choices"][0]
    assert said["message"].get("tool_calls") or said["message"]["content"] == '"good"'


async def test_calls_of_tools_are_told_as_such(service: Service) -> None:
    said = {"role": "user", "content": "now " + CALL}
    choice = (await chat(service, said, tools=[TOOL])).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (" see: now", "tool_calls")
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "see", "arguments": '{"a": "é"}'}
    told = chunks(await chat(service, said, tools=[TOOL], stream=True))
    assert "".join(part["choices"][0]["delta"].get("content") or "" for part in told) == " see: now "
    (streamed,) = [part["choices"][0]["delta"]["tool_calls"] for part in told if "tool_calls" in part["choices"][0]["delta"]]
    assert (streamed[0]["index"], streamed[0]["function"]) == (0, call["function"])
    assert told[-1]["choices"][0]["finish_reason"] == "tool_calls"
    untold = (await chat(service, said, tools=[TOOL], tool_choice="none")).json()["choices"][0]
    assert (untold["message"]["content"], untold["finish_reason"]) == (" now " + CALL, "stop")


async def test_what_only_looks_like_a_call_is_text(service: Service) -> None:
    said = {"role": "user", "content": "<tool_call>{broken</tool_call> a"}
    told = chunks(await chat(service, said, tools=[TOOL], stream=True))
    assert "".join(part["choices"][0]["delta"].get("content") or "" for part in told) == " see: " + said["content"]
    assert told[-1]["choices"][0]["finish_reason"] == "stop"


async def test_parts_calls_and_what_clients_send_besides_are_taken(service: Service) -> None:
    parts = [{"type": "text", "text": "the"}, {"type": "text", "text": "film"}]
    call = {"id": "1", "type": "function", "function": {"name": "see", "arguments": '{"a": 1}'}}
    answer = await chat(
        service,
        {"role": "assistant", "content": None, "tool_calls": [call], "annotations": [], "audio": None, "function_call": None},
        {"role": "assistant", "content": None, "refusal": "No.", "reasoning_content": "Hm."},
        {"role": "tool", "tool_call_id": "1", "content": "good"},
        {"role": "user", "content": parts},
        user="me", temperature=0, store=False, metadata={}, logit_bias={}, tool_choice=None, stop=None, n=1, top_p=0.5,
        stream=False, parallel_tool_calls=True, chat_template_kwargs={"enable_thinking": False},
    )  # fmt: skip
    assert answer.json()["choices"][0]["message"]["content"] == " the\nfilm"


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"n": 2}, "n", "a temperature above 0"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "the model has no token 99999"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "less than or equal to 100"),
        ({"logit_bias": {"the": 1}}, None, "logit_bias.the"),
        ({"nonsense": 1}, "nonsense", ""),
        ({"modalities": ["text", "audio"]}, "modalities", 'it may be null or ["text"] alone'),
        ({"top_logprobs": 2}, "top_logprobs", "counts only with logprobs: true"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "counts only with stream: true"),
        ({"top_p": 0.5}, "top_p", "counts only with a temperature above 0"),
        ({"max_completion_tokens": 5000}, "max_completion_tokens", "should be at most"),
        ({"max_tokens": 5000}, "max_tokens", "should be at most"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "goes with type: json_schema"),
        ({"response_format": {"type": "json_object"}, "stop": "a"}, "stop", "does not go with"),
        (
            {"response_format": schema_format({"not": {}})},
            "response_format",
            'Unimplemented keys: ["not"]',
        ),
        ({"tool_choice": "required"}, "tool_choice", "counts only with tools"),
        ({"tool_choice": "any", "tools": [TOOL]}, "tool_choice", "'required'"),
        ({"tool_choice": {"type": "function", "name": "see"}, "tools": [TOOL]}, "tool_choice", "should be a word, or"),
        ({"tool_choice": called("sea"), "tools": [TOOL]}, "tool_choice.function.name", "no function 'sea'"),
        ({"tool_choice": "required", "tools": [TOOL], "stop": "a"}, "stop", "does not go with tools"),
        ({"tool_choice": "required", "tools": [UNREADABLE]}, "tools", 'Unimplemented keys: ["not"]'),
        ({"messages": []}, "messages", ""),
        ({"messages": [{"role": "narrator", "content": "a"}]}, "messages.0.role", "'user'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]},
            "messages.0.content.0",
            "models here read text alone, and nothing of a part of the type 'image_url'",
        ),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content", "must not be empty"),
        ({"messages": [{"role": "user"}]}, "messages.0", "content is required, of the role user"),
        ({"messages": [{"role": "assistant", "tool_calls": []}, HELLO]}, "messages.0", "content is required"),
        ({"chat_template_kwargs": {"a": [1]}}, "chat_template_kwargs.a", "should be a text, a number"),
        ({"logit_bias": {"9" * 400: 1}}, None, "less than or equal to 2147483647"),
        ({"response_format": schema_format({"$ref": "#"})}, "response_format", "no text obeys it"),
        ({"messages": [HELLO] * 300}, "messages", "300 items are too many"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages", "must not be empty"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_name(
    service: Service, options: dict[str, Any], param: str | None, words: str
) -> None:
    response = await service.client.post("/v1/chat/completions", json={"messages": [HELLO], **options})
    assert response.status_code in (400, 413), response.text
    error = response.json()["error"]
    assert words in error["message"]
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": []}, "prompt: must not be empty"),
        ({"prompt": ""}, "prompt: must not be empty"),
        ({"prompt": [5, 99999]}, "prompt: the model has no token 99999"),
        ({"prompt": [[]]}, "prompt.0: must not be empty"),
        ({"prompt": ["a", ""]}, "prompt.1: must not be empty"),
        ({"prompt": ["a", ""], "stream": True}, "prompt.1: must not be empty"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo: of a prompt's own tokens"),
        ({"prompt": "a", "best_of": 3}, "best_of: no text is written that is not returned"),
        ({"prompt": "a", "suffix": "b"}, "suffix: models here continue a text"),
        ({"prompt": "a", "model": "nobody"}, "nobody"),
    ],
)
async def test_prompts_that_cannot_be_are_refused(service: Service, options: dict[str, Any], words: str) -> None:
    error = (await service.client.post("/v1/completions", json=options)).json()["error"]
    assert words in error["message"]


async def test_what_is_longer_than_the_model_reads_is_refused_as_clients_know_it(service: Service) -> None:
    long = "the film " * 300
    refusals = [await chat(service, {"role": "user", "content": long}, status=400)]
    refusals += [await complete(service, ["a", long], status=400, stream=stream) for stream in (False, True)]
    for error in (refusal.json()["error"] for refusal in refusals):
        assert (error["code"], error["type"]) == ("context_length_exceeded", "invalid_request_error")
        assert error["message"].startswith("this model's maximum context length is 400 tokens; the text has 60")
        assert error["message"].endswith("(context_length_exceeded)")  # where LangChain's looks for it
    cut = (await complete(service, long, truncation="truncate", max_tokens=100)).json()
    assert cut["usage"]["prompt_tokens"] == 300
    native = await service.client.post("/v1/generate", json={"inputs": long})
    assert (native.status_code, native.json()["type"]) == (413, "too_large")


async def test_a_model_without_a_template_holds_no_conversations() -> None:
    async with echoing("text2text-generation", max_length=60) as (running, _):
        error = (await chat(running, HELLO, status=404)).json()["error"]
        assert error["type"] == "not_found_error"

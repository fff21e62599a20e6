"""Conversations and continued texts over real sockets, asked by the clients that people have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient

from tests.support.live_service import LiveService, serving
from tests.support.tiny_continuer import publish_tiny_continuer

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ message.content }} {% endfor %}"
)
MESSAGES: Any = [
    {"role": "user", "content": "w5 w6"},
    {"role": "assistant", "content": "w7"},
    {"role": "user", "content": "w8"},
]
PROMPT = "w5 w6 w7 w8"
MODEL = "story"


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    models = tmp_path_factory.mktemp("talking")
    publish_tiny_continuer(models, MODEL, task_options={"chat_template": {"default": TEMPLATE}, "chat_tokens": {}})
    with serving(models) as running:
        yield running


@pytest.fixture(scope="module")
def expected(talking: LiveService) -> str:
    with talking.client() as http:
        answer = http.post("/v1/generate", json={"inputs": PROMPT, "model": MODEL, "max_new_tokens": 6}).json()
    text = answer["results"][0]["text"]
    assert len(text.split()) > 2
    return str(text)


@pytest.fixture
def client(talking: LiveService) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{talking.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_openais_client_holds_a_conversation(client: openai.OpenAI, expected: str) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_completion_tokens=6, logprobs=True, top_logprobs=2
    )
    (choice,) = answer.choices
    assert choice.message.content == expected
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, choice.finish_reason) == (
        4,
        "length" if answer.usage.completion_tokens == 6 else "stop",
    )
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    for token in choice.logprobs.content:
        assert token.logprob == token.top_logprobs[0].logprob  # greedily the likeliest
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob


def test_openais_client_reads_a_stream(client: openai.OpenAI, expected: str) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=6, stream=True, stream_options={"include_usage": True}
    )
    *parts, last = list(stream)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == expected
    assert len(parts) > 3
    assert last.usage is not None
    assert last.usage.prompt_tokens == 4


def test_openais_client_continues_texts(client: openai.OpenAI, expected: str) -> None:
    answer = client.completions.create(model=MODEL, prompt=[PROMPT, PROMPT], max_tokens=6)
    assert [choice.text for choice in answer.choices] == [expected, expected]
    parts = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=6, stream=True)
    assert "".join(part.choices[0].text for part in parts) == expected


async def test_openais_asynchronous_client_does_the_same(talking: LiveService, expected: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{talking.url}/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=6)
        assert answer.choices[0].message.content == expected
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=6, stream=True)
        assert "".join([part.choices[0].delta.content or "" async for part in stream]) == expected


def test_what_a_template_refuses_reaches_openais_client_in_its_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="System role not supported") as refused:
        client.chat.completions.create(model=MODEL, messages=[{"role": "system", "content": "a"}, *MESSAGES])
    assert refused.value.param == "messages"


def test_a_vocabulary_of_words_can_be_held_to_no_form_and_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not say what text each token is"):
        client.chat.completions.create(model=MODEL, messages=MESSAGES, response_format={"type": "json_object"})


def test_hugging_faces_client_holds_a_conversation(talking: LiveService, expected: str) -> None:
    asked = InferenceClient(base_url=talking.url)
    answer = asked.chat_completion(MESSAGES, model=MODEL, max_tokens=6)
    assert answer.choices[0].message.content == expected
    parts = list(asked.chat_completion(MESSAGES, model=MODEL, max_tokens=6, stream=True))
    assert "".join(part.choices[0].delta.content or "" for part in parts) == expected


async def test_hugging_faces_clients_continue_a_text_and_the_asynchronous_one_does_all_of_it(
    talking: LiveService, expected: str
) -> None:
    url = f"{talking.url}/models/{MODEL}"
    named = InferenceClient(model=url)
    assert named.text_generation(PROMPT, max_new_tokens=6) == expected
    assert named.text_generation(PROMPT, max_new_tokens=6, return_full_text=True) == PROMPT + expected
    assert "".join(named.text_generation(PROMPT, max_new_tokens=6, stream=True)) == expected
    async with AsyncInferenceClient(model=url) as client:
        assert await client.text_generation(PROMPT, max_new_tokens=6) == expected
        pieces = await client.text_generation(PROMPT, max_new_tokens=6, stream=True)
        assert "".join([piece async for piece in pieces]) == expected
    async with AsyncInferenceClient(base_url=talking.url) as client:
        answer = await client.chat_completion(MESSAGES, model=MODEL, max_tokens=6)
        assert answer.choices[0].message.content == expected
        parts = await client.chat_completion(MESSAGES, model=MODEL, max_tokens=6, stream=True)
        assert "".join([part.choices[0].delta.content or "" async for part in parts]) == expected

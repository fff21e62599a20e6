"""Texts that are written, over real sockets: asked by the clients that people have, whole and piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.error import HTTPError

import httpx
import pytest
from huggingface_hub import InferenceClient

from tests.support.live_service import LiveService, serving
from tests.support.tiny_decoder import EOS, MAX_LENGTH, greedily, publish_tiny_decoder, source_of, text_of

SOURCE = "w5 w6"
TASKS = ("translation", "abstractive-summarization", "text2text-generation")
FEW = {"max_new_tokens": 6}


def expected(num_tokens: int = 6) -> str:
    return text_of(greedily(source_of(SOURCE), num_tokens))


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    models = tmp_path_factory.mktemp("writing")
    for task in TASKS:
        publish_tiny_decoder(models, task, task=task)
    with serving(models) as running:
        yield running


def client(writing: LiveService, model: str) -> InferenceClient:
    return InferenceClient(model=f"{writing.url}/models/{model}")


def test_hugging_faces_client_translates_and_summarizes(writing: LiveService) -> None:
    translated = client(writing, "translation").translation(SOURCE, src_lang="en", tgt_lang="de", generate_parameters=FEW)
    assert translated.translation_text == expected()
    summarized = client(writing, "abstractive-summarization").summarization(SOURCE, generate_parameters=FEW)
    assert summarized.summary_text == expected()


def test_hugging_faces_client_writes_whole_texts_and_piece_by_piece(writing: LiveService) -> None:
    asked = client(writing, "text2text-generation")
    assert asked.text_generation(SOURCE, max_new_tokens=6) == expected()
    detailed = asked.text_generation(SOURCE, max_new_tokens=6, details=True)
    reason = "eos_token" if greedily(source_of(SOURCE), 6)[-1] == EOS else "length"
    assert detailed.details is not None
    assert (detailed.generated_text, detailed.details.finish_reason) == (expected(), reason)
    pieces = list(asked.text_generation(SOURCE, max_new_tokens=6, stream=True))
    assert "".join(pieces) == expected()
    assert len(pieces) > 2
    *_, last = asked.text_generation(SOURCE, max_new_tokens=6, stream=True, details=True)
    assert (last.generated_text, last.details.finish_reason) == (expected(), reason)


def test_it_may_be_told_the_address_of_the_service_alone_as_that_of_text_generation_inference(writing: LiveService) -> None:
    with writing.client() as http:
        answer = http.post("/generate", json={"inputs": SOURCE, "parameters": FEW}).json()
    assert answer["generated_text"] == expected()


def test_a_stream_is_sent_in_pieces_and_ends_with_the_whole_answer(writing: LiveService) -> None:
    body = {"inputs": SOURCE, "stream": True, **FEW}
    with writing.client() as http, http.stream("POST", "/v1/translate", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-request-id"]
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
        *tokens, done = map(json.loads, lines)
    assert "".join(token["text"] for token in tokens) == expected() == done["results"][0]["translation"]


def test_a_client_that_leaves_is_counted_as_such_and_the_service_goes_on(writing: LiveService) -> None:
    with writing.client() as http:
        with http.stream("POST", "/v1/generate", json={"inputs": SOURCE, "stream": True}) as response:
            next(response.iter_lines())
        assert http.post("/v1/generate", json={"inputs": SOURCE, **FEW}).json()["results"][0]["text"] == expected()


def test_libretranslates_client_translates_and_lists_the_languages(writing: LiveService) -> None:
    client = pytest.importorskip("libretranslatepy").LibreTranslateAPI(writing.url)
    assert client.translate(SOURCE, "en", "de") == expected(MAX_LENGTH - 1)
    assert [(language["code"], language["targets"]) for language in client.languages()] == [("en", ["de"])]
    with pytest.raises(HTTPError, match="400"):
        client.translate(SOURCE, "en", "fr")


def test_weblate_sends_a_list_as_json_with_a_key_that_may_be_empty(writing: LiveService) -> None:
    body = {"api_key": "", "q": [SOURCE, "w7"], "source": "en", "target": "de"}
    with writing.client() as http:
        answer = http.post("/translate", json=body).json()
        assert [language["code"] for language in http.get("/languages").json()] == ["en"]
    assert answer["translatedText"][0] == expected(MAX_LENGTH - 1)
    assert len(answer["translatedText"]) == 2


def test_libretranslates_form_is_answered(writing: LiveService) -> None:
    form = {"q": SOURCE, "source": "auto", "target": "de"}
    answer = httpx.post(f"{writing.url}/translate", data=form, trust_env=False).json()
    assert answer == {"translatedText": expected(MAX_LENGTH - 1)}
    with writing.client() as http:
        assert [language["code"] for language in http.get("/languages").json()] == ["en"]

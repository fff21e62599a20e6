"""LibreTranslate's API: JSON and forms, a key in the body, and models chosen by their languages."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.settings import Settings
from tests.support.echo_writer import echoing
from tests.support.requests import Service

TEXT = "the film was good."
KEY = "a key of forty characters, or nearly so.."
BODY = {"q": TEXT, "source": "en", "target": "de"}


@pytest.fixture
def service(echo_service: Service) -> Service:
    return echo_service


@pytest_asyncio.fixture(loop_scope="session")
async def keyed() -> AsyncIterator[Service]:
    settings = Settings(api_key_hashes=hashlib.sha256(KEY.encode()).hexdigest())
    async with echoing("translation", settings=settings) as (service, _):
        yield service


async def translate(service: Service, status: int = 200, **body: Any) -> Any:
    response = await service.client.post("/translate", json={**BODY, **body})
    assert response.status_code == status, response.text
    return response.json()


async def test_a_text_and_a_list_of_texts_are_translated(service: Service) -> None:
    assert await translate(service) == {"translatedText": TEXT}
    assert await translate(service, q=[TEXT, "the film"]) == {"translatedText": [TEXT, "the film"]}


async def test_a_form_is_read_like_json(service: Service) -> None:
    response = await service.client.post("/translate", data={**BODY, "q": "the film é 東京", "alternatives": "1"})
    assert response.status_code == 200
    assert response.json()["translatedText"].startswith("the film")
    assert len(response.json()["alternatives"]) == 1
    response = await service.client.post("/v1/translate", data=BODY)
    assert response.status_code == 415  # of this service's own routes none takes forms


@pytest.mark.parametrize("content", [b"q=%ff&source=en&target=de", b"\xff=1", b"&".join([b"a=1"] * 2000)])
async def test_a_form_that_is_none_is_refused(service: Service, content: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await service.client.post("/translate", content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"].startswith("the body is no form")


async def test_auto_is_what_the_model_reads(service: Service) -> None:
    assert await translate(service, source="auto") == {"translatedText": TEXT}


async def test_other_translations_come_of_more_beams(service: Service) -> None:
    assert (await translate(service, alternatives=2))["alternatives"] == [". good was film the"] * 2


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"format": "html"}, "format: html is not understood"),
        ({"target": "xx"}, "target: should be one of en, de, fr"),
        ({"q": " "}, "q: must not be empty"),
        ({"q": [TEXT, ""]}, "q.1: must not be empty"),
        ({"q": []}, "q: must not be empty"),
        ({"alternatives": 99}, "alternatives: "),
        ({"nonsense": 1}, "nonsense: "),
    ],
)
async def test_errors_are_one_sentence(service: Service, body: dict[str, Any], error: str) -> None:
    answer = await translate(service, 400, **body)
    assert list(answer) == ["error"]
    assert answer["error"].startswith(error)


async def test_the_languages_are_those_of_all_models(service: Service) -> None:
    assert (await service.client.get("/languages")).json() == [
        {"code": "en", "name": "English", "targets": ["de", "fr"]},
        {"code": "de", "name": "German", "targets": ["en", "fr"]},
    ]


@pytest.mark.asyncio(loop_scope="session")
async def test_the_key_may_stand_in_a_short_body(keyed: Service) -> None:
    assert await translate(keyed, api_key=KEY) == {"translatedText": TEXT}
    response = await keyed.client.post("/translate", data={**BODY, "api_key": KEY})
    assert response.json() == {"translatedText": TEXT}
    assert (await translate(keyed, 401, api_key="wrong"))["error"]
    assert (await translate(keyed, 401))["error"]
    assert (await translate(keyed, 401, api_key=KEY, q="a" * 70_000))["error"]
    bearer = {"Authorization": f"Bearer {KEY}"}
    assert (await keyed.client.post("/translate", json=BODY, headers=bearer)).status_code == 200
    assert (await keyed.client.get("/languages")).status_code == 200  # no client of LibreTranslate has a header for it


@pytest.mark.asyncio(loop_scope="session")
async def test_a_key_in_the_body_opens_no_other_path(keyed: Service) -> None:
    response: httpx.Response = await keyed.client.post("/v1/translate", json={"inputs": TEXT, "api_key": KEY})
    assert response.status_code == 401

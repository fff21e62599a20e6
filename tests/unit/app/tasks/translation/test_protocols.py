"""Translations over other protocols; LibreTranslate's has tests of its own beside its routes."""

from __future__ import annotations

from typing import Any

from tests.support.requests import Service

TEXT = "the film was good."


async def post(service: Service, path: str, body: Any, status: int = 200) -> Any:
    response = await service.client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


async def test_languages_are_named_as_hugging_face_names_them(echo_service: Service) -> None:
    body = {"inputs": TEXT, "parameters": {"src_lang": "de", "tgt_lang": "fr"}}
    assert (await post(echo_service, "/models/translation", body)) == {"translation_text": TEXT}
    body["parameters"] = {"src_lang": "xx", "tgt_lang": "fr"}
    assert "should be one of en, de" in (await post(echo_service, "/models/translation", body, 422))["error"]

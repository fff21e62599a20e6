"""What should have been written is kept as it is trained on, and told beside what was."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import InvalidInput
from app.core.feedback import read
from app.tasks.generation import GeneratedText, SourceText
from app.tasks.registry import installed_tasks
from app.tasks.spec import CorrectionCodec
from tests.support.requests import Service
from tests.support.tiny_decoder import publish_tiny_decoder
from tests.unit.app.conftest import running

KEYS = {"translation": "translation", "abstractive-summarization": "summary", "text2text-generation": "target"}


def codec_of(task: str) -> CorrectionCodec:
    codec = installed_tasks()[task].correction
    assert codec is not None
    return codec


@pytest.mark.parametrize("task", KEYS)
def test_blanks_around_a_text_make_no_difference_and_no_text_is_none(task: str) -> None:
    codec, key = codec_of(task), KEYS[task]
    sent = codec.schema(text="a", **{key: " b \n"})
    assert codec.gold(sent, SourceText("a"), False, {}) == {key: "b"}
    assert codec.agrees(GeneratedText(" b", "stop", 2), sent)
    assert not codec.agrees(GeneratedText("B", "stop", 2), sent)
    with pytest.raises(InvalidInput, match=f"{key}: must not be empty"):
        codec.gold(codec.schema(text="a", **{key: " "}), SourceText("a"), False, {})


async def corrected(service: Service, task: str, right: str) -> object:
    body = {"model": task, "inputs": {"text": "w5 w6", KEYS[task]: right}}
    response = await service.client.post("/v1/feedback", json=body)
    assert response.status_code == 200, response.text
    return response.json()["results"][0]


async def test_the_service_keeps_them_for_the_next_training(tmp_path: Path) -> None:
    for task in KEYS:
        publish_tiny_decoder(tmp_path / "models", task, task=task, generation={"max_new_tokens": 4})
    feedback = tmp_path / "feedback.db"
    async with running(models=tmp_path / "models", feedback=str(feedback)) as service:
        for task, key in KEYS.items():
            kept = await corrected(service, task, "w7 w8")
            assert isinstance(kept, dict)
            assert not kept["agrees"]
            assert set(kept["predicted"]) == {key, "finish_reason", "num_new_tokens"}
            again = await corrected(service, task, kept["predicted"][key])
            assert isinstance(again, dict)
            assert again["agrees"]
    tasks = installed_tasks()
    rows = [tasks.training_row(correction) for correction in read(feedback) if not correction.agrees]
    assert rows == [{"text": "w5 w6", key: "w7 w8"} for key in KEYS.values()]

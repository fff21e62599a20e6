"""What should have been written is kept as it is trained on, and told beside what was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.core.errors import InvalidInput
from app.core.feedback import read
from app.core.manifest import MANIFEST
from app.tasks.generation import GeneratedText, SourceText
from app.tasks.registry import installed_tasks
from app.tasks.spec import CorrectionCodec
from app.tasks.translation.task import Translation
from tests.support.requests import Service
from tests.support.tiny_decoder import publish_tiny_decoder
from tests.support.writing import LANGUAGES, generator
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


def many_languages() -> Translation:
    tokens = dict(zip(("eng_Latn", "deu_Latn", "fra_Latn"), LANGUAGES, strict=True))
    return Translation(generator(), tuple(tokens), tuple(tokens), "eng_Latn", language_tokens=tokens, target_place="source")


def test_of_a_model_of_many_languages_the_two_are_kept_by_its_own_codes_and_are_columns_of_the_data() -> None:
    codec = codec_of("translation")
    asked = codec.asked(codec.schema(text="a", translation="b", target="fr"), many_languages())
    assert asked == {"source": "eng_Latn", "target": "fra_Latn"}
    row = codec.training_row({"text": "a", **asked}, {"translation": "b"})
    assert row == {"text": "a", "translation": "b", "source_language": "eng_Latn", "target_language": "fra_Latn"}
    assert codec.asked(codec.schema(text="a", translation="b"), Translation(generator(), source="en", target="de")) == {}


@pytest.mark.parametrize("sent", [{}, {"target": "xx"}, {"source": "xx", "target": "fr"}])
def test_a_correction_into_no_language_or_an_unknown_one_is_refused(sent: dict[str, str]) -> None:
    codec = codec_of("translation")
    with pytest.raises(InvalidInput, match="eng_Latn, deu_Latn, fra_Latn"):
        codec.asked(codec.schema(text="a", translation="b", **sent), many_languages())


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


async def test_a_correction_is_compared_with_what_was_written_in_its_languages_and_kept_with_them(tmp_path: Path) -> None:
    folder = publish_tiny_decoder(tmp_path / "models", "many", task="translation", generation={"max_new_tokens": 4})
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["task_options"] = {"sources": ["en"], "targets": ["de", "fr"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    feedback = tmp_path / "feedback.db"
    texts = [("w5 w6", "de"), ("w7", "fr"), ("w5 w6", "fr"), ("w8", None), ("w9", "it")]
    inputs = [{"text": text, "translation": "w7 w8", "target": target} for text, target in texts]
    async with running(models=tmp_path / "models", feedback=str(feedback)) as service:
        response = await service.client.post("/v1/feedback", json={"model": "many", "inputs": inputs})
    results = response.json()["results"]
    assert [result.get("error", {}).get("detail", "") for result in results[3:]] == [
        "target: must be named: the model has several, de, fr", "target: should be one of de, fr",
    ]  # fmt: skip
    kept = {correction.key: correction for correction in read(feedback)}
    asked = [(correction.item["text"], correction.item["target"]) for correction in kept.values()]
    assert asked == texts[:3]
    written = [result["predicted"]["translation"] for result in results[:3]]
    assert written[0] == written[2] != written[1]  # those that were asked together get their own answers

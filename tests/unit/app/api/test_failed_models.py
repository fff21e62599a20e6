"""One model that cannot be loaded: the others answer, and every protocol says why it does not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from app.core.artefact import SERVING, write_serving
from app.serving.doctor import examine
from app.serving.repository import Repository
from app.settings import Settings
from tests.support.mutated_model import change_golden, golden_of, sign_again
from tests.support.requests import Service, check_problem
from tests.support.tiny_model import publish_tiny

ADMIN = {"Authorization": "Bearer admin"}
ADMIN_HASH = hashlib.sha256(b"admin").hexdigest()
TENSORS = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["good"]}]}


def publish_as(models: Path, name: str, version: int = 1, **changes: object) -> Path:
    folder = Path(shutil.copytree(models / "tiny" / "1", models / name / str(version)))
    sign_again(folder, name=name, version=version, **changes)
    return folder


def other_answers(folder: Path) -> None:
    golden = golden_of(folder)
    golden[0]["answer"]["labels"][0]["score"] -= 0.5
    change_golden(folder, golden)


def a_link(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


BREAKING: dict[str, Callable[[Path], Any]] = {
    "cut off": lambda folder: (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:100]),
    "no manifest's text": lambda folder: (folder / "manifest.json").write_text("{"),
    "half a manifest": lambda folder: (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:500]),
    "another name": lambda folder: sign_again(folder, name="somebody"),
    "a link": a_link,
    "an unlisted file": lambda folder: (folder / "weights.bin").write_text(""),
    "a missing file": lambda folder: (folder / "tokenizer.json").unlink(),
    "other answers": other_answers,
    "task options": lambda folder: sign_again(folder, task_options={"labels": 5}),
    "a broken record": lambda folder: (folder.parent / SERVING).write_text("{"),
    "a record of what is gone": lambda folder: write_serving(folder.parent, 9, "loaded"),
}


@pytest.fixture
async def half(start: Any, models: Path) -> AsyncIterator[Service]:
    """`tiny` answers; `broken`, which was published before it, does not."""
    folder = publish_as(models, "broken", first_published="2020-01-01T00:00:00+00:00")
    (folder / "model.onnx").write_bytes(b"broken")
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        yield service


@pytest.mark.parametrize("breaking", BREAKING)
async def test_whatever_is_wrong_with_a_model_the_others_answer(start: Any, models: Path, breaking: str) -> None:
    BREAKING[breaking](publish_as(models, "broken"))
    async with start() as service:
        ready = await service.client.get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["models"] == ["tiny/1"]
        (failed,) = ready.json()["failed"]
        assert failed["model"] == ("broken" if "record" in breaking else "broken/1")
        assert str(models) not in failed["detail"]
        assert "/" not in failed["detail"].replace("broken/1", "").replace("somebody/1", "")
        assert (await service.classify("good", model="tiny")).status_code == 200
        problem = check_problem(await service.classify("good", model="broken"), 503, "model_failed")
        assert failed["detail"] in problem


async def test_a_folder_that_may_not_be_read_stops_no_other_model(
    start: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, iterdir = publish_as(models, "broken").parent, Path.iterdir

    def refused(folder: Path) -> Any:  # as for any user but root, to whom nothing is refused
        if folder == locked:
            raise PermissionError(13, "Permission denied", str(folder))
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", refused)
    async with start() as service:
        ready = (await service.client.get("/health/ready")).json()
        assert ready["models"] == ["tiny/1"]
        assert ready["failed"] == [{"model": "broken", "detail": "broken cannot be read: Permission denied"}]
    assert set(Repository(models).manifests()) == {"broken", "tiny/1"}
    findings = await asyncio.to_thread(examine, Settings(models=models, device="cpu"))
    assert [finding.ok for finding in findings if finding.what in ("broken", "tiny/1")] == [False, True]


async def test_every_protocol_says_why_a_model_does_not_answer(half: Service) -> None:
    reason = "model 'broken' could not be loaded: model.onnx differs from the checksum in manifest.json"
    asked = [
        half.classify("good", model="broken"),
        half.classify("good", model="broken/1"),
        half.ask("explain", "good", model="broken"),
        half.client.post("/models/broken", json={"inputs": "good"}),
        half.client.post("/v2/models/broken/infer", json=TENSORS),
        half.client.post("/v2/models/broken/versions/1/infer", json=TENSORS),
        *(
            half.client.get(f"/v2/models/broken{path}")
            for path in ("", "/ready", "/config", "/versions/1", "/versions/1/ready")
        ),
        half.client.get("/v1/models/broken"),
    ]
    for coming in asked:
        response = await coming
        assert response.status_code == 503, response.request.url
        assert reason in response.text


async def test_corrections_of_a_failed_model_are_refused_with_the_reason(start: Any, models: Path, tmp_path: Path) -> None:
    (publish_as(models, "broken") / "model.onnx").write_bytes(b"broken")
    async with start(feedback=str(tmp_path / "feedback.db")) as service:
        response = await service.ask("feedback", {"text": "good", "label": "good"}, model="broken")
        assert "could not be loaded" in check_problem(response, 503, "model_failed")


async def test_where_the_default_failed_nothing_else_answers_in_its_place(half: Service) -> None:
    told = "model 'broken' could not be loaded: model.onnx differs"
    for coming in (
        half.classify("good"),
        half.ask("explain", "good"),
        half.client.post("/predict", json={"inputs": "good"}),
        half.client.get("/info"),
    ):
        response = await coming
        assert response.status_code == 503
        assert told in response.text


async def test_the_list_of_models_tells_failures_and_defaults(half: Service) -> None:
    shown = (await half.client.get("/v1/models")).json()
    assert shown["failed"] == [{"model": "broken/1", "detail": "model.onnx differs from the checksum in manifest.json"}]
    assert [(entry["name"], entry["default"]) for entry in shown["models"]] == [("tiny", False)]
    assert half.sample("hooper_model_failed", model="broken") == 1


async def test_a_mended_model_is_tried_again_by_load(half: Service, models: Path) -> None:
    refused = await half.client.post("/v1/models/broken/load", headers=ADMIN)
    check_problem(refused, 500, "invalid_artefact")
    shutil.copy(models / "tiny" / "1" / "model.onnx", models / "broken" / "1" / "model.onnx")
    loaded = await half.client.post("/v1/models/broken/load", headers=ADMIN)
    assert loaded.status_code == 200
    assert (await half.client.get("/health/ready")).json()["failed"] == []
    assert (await half.classify("good")).json()["model"]["name"] == "broken"  # the default again
    assert half.sample("hooper_model_failed", model="broken") is None


async def test_a_failed_model_is_forgotten_by_unload(half: Service) -> None:
    assert (await half.client.post("/v1/models/broken/unload", headers=ADMIN)).status_code == 200
    assert (await half.client.get("/v1/models")).json()["failed"] == []
    check_problem(await half.classify("good", model="broken"), 404, "unknown_model")


async def test_a_new_model_that_fails_at_load_is_listed_and_one_that_answers_goes_on(start: Any, models: Path) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        for name, version in (("new", 1), ("tiny", 2)):
            (publish_as(models, name, version) / "model.onnx").write_bytes(b"broken")
            response = await service.client.post(f"/v1/models/{name}/load", headers=ADMIN)
            check_problem(response, 500, "invalid_artefact")
        check_problem(await service.client.post("/v1/models/nobody/load", headers=ADMIN), 404, "unknown_model")
        assert [entry["model"] for entry in (await service.client.get("/v1/models")).json()["failed"]] == ["new/1"]
        assert (await service.classify("good")).json()["model"] == {"name": "tiny", "version": 1}


async def test_a_model_that_the_settings_name_keeps_readiness_red_until_it_is_loaded(start: Any, models: Path) -> None:
    folder = publish_as(models, "broken")
    (folder / "model.onnx").write_bytes(b"broken")
    async with start(serve=("tiny", "broken/1"), admin_key_hashes=(ADMIN_HASH,)) as service:
        for path in ("/health/ready", "/v2/health/ready"):
            response = await service.client.get(path)
            assert response.status_code == 503
            assert "model 'broken' could not be loaded: model.onnx differs" in response.text
        assert (await service.client.get("/health/live")).status_code == 200
        assert (await service.classify("good", model="tiny")).status_code == 200
        shutil.copy(models / "tiny" / "1" / "model.onnx", folder / "model.onnx")
        assert (await service.client.post("/v1/models/broken/load", headers=ADMIN)).status_code == 200
        assert (await service.client.get("/health/ready")).status_code == 200


# --- the default


async def test_another_model_never_becomes_the_default_by_its_name(start: Any, models: Path) -> None:
    publish_as(models, "aardvark", first_published="2026-02-01T00:00:00+00:00")
    async with start() as service:
        for response in (await service.classify("good"), await service.ask("explain", "good")):
            assert response.json()["model"]["name"] == "tiny"
        assert (await service.client.get("/info")).json()["model_id"] == "tiny/1"
        shown = (await service.client.get("/v1/models")).json()["models"]
        assert [(entry["name"], entry["default"]) for entry in shown] == [("aardvark", False), ("tiny", True)]
    async with start(default_models={"text-classification": "aardvark"}) as service:
        assert (await service.classify("good")).json()["model"]["name"] == "aardvark"


async def test_a_regression_model_may_still_be_named_as_the_default_for_classification(start: Any, models: Path) -> None:
    """Release 0.1.0 took regression for a kind of it, so settings name it so."""
    publish_tiny(models, "stars", labels=["stars"], problem_type="regression")
    async with start(default_models={"text-classification": "stars"}) as service:
        for response in (await service.classify("good"), await service.ask("explain", "good")):
            assert response.json()["model"]["name"] == "stars"
        assert (await service.client.get("/info")).json()["model_id"] == "stars/1"
        shown = (await service.client.get("/v1/models")).json()["models"]
        assert [(entry["name"], entry["default"]) for entry in shown] == [("stars", True), ("tiny", False)]


async def test_loading_another_model_does_not_change_the_default(start: Any, models: Path) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        publish_as(models, "aardvark", created="2001-01-01T00:00:00+00:00")
        assert (await service.client.post("/v1/models/aardvark/load", headers=ADMIN)).status_code == 200
        assert (await service.classify("good")).json()["model"]["name"] == "tiny"


# --- a rollback survives a restart


async def versions(service: Service) -> list[int]:
    return [entry["version"] for entry in (await service.client.get("/v1/models")).json()["models"]]


@pytest.mark.parametrize("state", [False, True])
async def test_what_was_loaded_last_serves_after_a_restart(start: Any, models: Path, tmp_path: Path, state: bool) -> None:
    publish_as(models, "tiny", 2)
    settings: dict[str, Any] = {"admin_key_hashes": (ADMIN_HASH,), "state": str(tmp_path / "state") if state else ""}
    async with start(**settings) as service:
        assert await versions(service) == [2]
        said = await service.client.post("/v1/models/tiny/load?version=1", headers=ADMIN)
        assert said.json()["persistent"] is True
    kept = (tmp_path / "state" if state else models) / "tiny" / SERVING
    assert json.loads(kept.read_text())["version"] == 1
    async with start(**settings) as service:
        assert await versions(service) == [1]
    async with start(serve=("tiny/2",), **settings) as service:  # what the setting names wins
        assert await versions(service) == [2]


async def test_a_promotion_survives_a_restart_and_a_candidate_does_not(start: Any, models: Path) -> None:
    publish_as(models, "tiny", 2)
    write_serving(models / "tiny", 1, "loaded")
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        said = await service.client.post("/v1/models/tiny/load", headers=ADMIN, json={"share": 0.5})
        assert said.json()["persistent"] is False
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        assert await versions(service) == [1]
        await service.client.post("/v1/models/tiny/load", headers=ADMIN, json={"shadow": True})
        said = await service.client.post("/v1/models/tiny/promote", headers=ADMIN)
        assert said.json()["persistent"] is True
    async with start() as service:
        assert await versions(service) == [2]


async def test_where_nothing_can_be_written_the_answer_says_so(start: Any, models: Path) -> None:
    publish_as(models, "tiny", 2)
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        (models / "tiny" / SERVING).mkdir()
        said = await service.client.post("/v1/models/tiny/load?version=1", headers=ADMIN)
        assert said.json() == {"name": "tiny", "version": 1, "state": "ready", "role": "main", "persistent": False}
        (models / "tiny" / SERVING).rmdir()
        again = await service.client.post("/v1/models/tiny/load?version=1", headers=ADMIN)
        assert again.json()["persistent"] is True

"""`/v1/models`: what is loaded, and changing it while requests are in flight."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.serving import loader
from tests.altered import sign_again
from tests.asked import Service, check_problem
from tests.gated import GatedEngine, output_of, turn

ADMIN = {"Authorization": "Bearer admin"}
ADMIN_HASH = hashlib.sha256(b"admin").hexdigest()


def publish_second(models: Path) -> Path:
    folder = Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2"))
    sign_again(folder, version=2)
    return folder


async def test_a_model_tells_what_it_is_and_what_it_runs_on(service: Service) -> None:
    shown = (await service.client.get("/v1/models/tiny")).json()
    assert shown == {
        "name": "tiny",
        "version": 1,
        "task": "text-classification",
        "description": "Ten words, for tests.",
        "labels": ["bad", "good"],
        "state": "ready",
        "execution_providers": ["CPUExecutionProvider"],
        "device_reason": "as asked for",
        "precision": "fp32",
        "layout": "packed",
        "engine_threads": 1,
        "limits": {
            "max_tokens": 32,
            "max_batch_tokens": 1024,
            "max_batch_rows": 64,
            "max_waiting_rows": 2048,
            "max_waiting_tokens": 262144,
        },
        "parity": {"fp32": {"rows": 5, "agreement": 1.0, "max_abs_error": 0.0, "passed": True}},
        "evaluation": {"accuracy": 1.0, "macro_f1": 1.0, "rows": 5},
    }
    assert (await service.client.get("/v1/models")).json() == {"models": [shown]}


async def test_only_the_models_that_were_named_are_loaded(start: Any, models: Path) -> None:
    publish_second(models)
    async with start() as latest, start(serve=("tiny/1",)) as named:
        for service, version in ((latest, 2), (named, 1)):
            assert (await service.client.get("/v1/models/tiny")).json()["version"] == version


# --- load and unload


async def test_loading_moves_the_name_to_the_new_version(start: Any, models: Path) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        publish_second(models)
        response = await service.client.post("/v1/models/tiny/load", headers=ADMIN)
        assert response.json() == {"name": "tiny", "version": 2, "state": "ready"}
        assert (await service.classify("good")).json()["model"]["version"] == 2
        back = await service.client.post("/v1/models/tiny/load?version=1", headers=ADMIN)
        assert back.json()["version"] == 1
        assert (await service.classify("good")).json()["model"]["version"] == 1
        check_problem(await service.classify("good", model="tiny/2"), 404, "unknown_model")


async def test_unloading_forgets_a_model_and_loading_brings_it_back(start: Any) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        response = await service.client.post("/v1/models/tiny/unload", headers=ADMIN)
        assert response.json() == {"name": "tiny", "version": None, "state": "unloaded"}
        check_problem(await service.classify("good"), 404, "unknown_model")
        check_problem(await service.client.post("/v1/models/tiny/unload", headers=ADMIN), 404, "unknown_model")
        assert (await service.client.post("/v1/models/tiny/load", headers=ADMIN)).status_code == 200
        assert (await service.classify("good")).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("other/load", 404, "unknown_model"),
        ("tiny/load?version=7", 404, "unknown_model"),
        ("..%2Fmodels%2Ftiny/load", 404, "not_found"),
        ("tiny/load?version=0", 422, "invalid_input"),
        ("tiny/load?version=latest", 422, "invalid_input"),
        ("m" * 65 + "/load", 422, "invalid_input"),
    ],
)
async def test_what_cannot_be_loaded_is_said(start: Any, path: str, status: int, kind: str) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        check_problem(await service.client.post(f"/v1/models/{path}", headers=ADMIN), status, kind)


async def test_a_broken_version_is_refused_and_the_old_one_goes_on(start: Any, models: Path) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        (publish_second(models) / "model.onnx").write_bytes(b"broken")
        response = await service.client.post("/v1/models/tiny/load", headers=ADMIN)
        assert "differs from the checksum" in check_problem(response, 500, "invalid_artefact")
        assert (await service.classify("good")).json()["model"]["version"] == 1


async def test_a_request_in_flight_finishes_on_the_version_it_began_with(
    start: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        (old,) = service.live.registry.deployments
        engine = GatedEngine()
        monkeypatch.setattr(old.batcher._execution, "_runner", engine)
        in_flight = [asyncio.ensure_future(service.classify(text)) for text in ("good", "bad", "film")]
        batch = await engine.batch()
        publish_second(models)
        assert (await service.client.post("/v1/models/tiny/load", headers=ADMIN)).json()["version"] == 2
        assert (await service.classify("good")).json()["model"]["version"] == 2
        assert old.is_alive
        while not all(one.done() for one in in_flight):
            batch.finish([output_of(one) for one in batch.rows])
            await turn()
            batch = await engine.batch() if engine.has_batch else batch
        assert [one.result().json()["model"]["version"] for one in in_flight] == [1, 1, 1]
        await turn()
        assert not old.is_alive


async def test_requests_go_on_while_a_model_is_loading(start: Any, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        publish_second(models)
        gate, replay = asyncio.Event(), loader._replay_golden

        async def gated(*arguments: Any) -> None:
            await gate.wait()
            await replay(*arguments)

        monkeypatch.setattr(loader, "_replay_golden", gated)
        loading = asyncio.ensure_future(service.client.post("/v1/models/tiny/load", headers=ADMIN))
        assert (await service.classify("good")).json()["model"]["version"] == 1
        gate.set()
        assert (await loading).status_code == 200
        assert (await service.classify("good")).json()["model"]["version"] == 2

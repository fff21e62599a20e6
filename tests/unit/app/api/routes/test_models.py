"""`/v1/models`: what is loaded, and changing it while requests are in flight."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.serving import loader
from app.serving.rollout.shadow import MAX_IN_FLIGHT
from tests.support.gated_engine import GatedEngine, output_of, turn
from tests.support.mutated_model import change_golden, golden_of, sign_again
from tests.support.requests import Service, check_problem
from tests.support.tiny_model import GOLDEN_TEXTS, publish_tiny
from tests.unit.app.conftest import Start

ADMIN = {"Authorization": "Bearer admin"}
ADMIN_HASH = hashlib.sha256(b"admin").hexdigest()


def publish_second(models: Path) -> Path:
    folder = Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2"))
    sign_again(folder, version=2)
    return folder


async def test_a_model_tells_what_it_is_and_what_it_runs_on(service: Service) -> None:
    listed = {"id": "tiny", "object": "model", "created": 1767225600, "owned_by": "hooper"}  # as OpenAI's clients read it
    shown = {
        "name": "tiny",
        "version": 1,
        "task": "text-classification",
        "description": "Ten words, for tests.",
        "labels": ["bad", "good"],
        "default": True,
        "state": "ready",
        "role": "main",
        "share": 1.0,
        "execution_providers": ["CPUExecutionProvider"],
        "device_reason": "as asked for",
        "precision": "fp32",
        "decoder": None,
        "layout": "packed",
        "engine_threads": 1,
        "limits": {
            "max_tokens": 32,
            "max_batch_tokens": 1024,
            "max_batch_rows": 64,
            "max_waiting_rows": 2048,
            "max_waiting_tokens": 262144,
        },
        "parity": {"fp32": {"rows": 5, "agreement": 1.0, "ties": 0, "max_abs_error": 0.0, "passed": True}},
        "evaluation": {"accuracy": 1.0, "macro_f1": 1.0, "rows": 5},
        "license": "Apache-2.0",
        "examples": [{"text": text} for text in GOLDEN_TEXTS[:4]],
        "columns": {},
        "task_options": {"problem_type": "single_label_classification"},
    }
    assert (await service.client.get("/v1/models/tiny")).json() == {**shown, **listed}
    limits = {"max_items": 256, "max_body_bytes": 2_097_152}
    openai = {"object": "list", "data": [listed]}
    assert (await service.client.get("/v1/models")).json() == {"models": [shown], "failed": [], "limits": limits, **openai}


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
        assert response.json() == {"name": "tiny", "version": 2, "state": "ready", "role": "main", "persistent": True}
        assert (await service.classify("good")).json()["model"]["version"] == 2
        back = await service.client.post("/v1/models/tiny/load?version=1", headers=ADMIN)
        assert back.json()["version"] == 1
        assert (await service.classify("good")).json()["model"]["version"] == 1
        check_problem(await service.classify("good", model="tiny/2"), 404, "unknown_model")


@pytest.mark.parametrize("name", ["%00", "tiny%00", "a%0Ab", "%ed%a0%80"])
@pytest.mark.parametrize("action", ["load", "promote", "unload"])
async def test_what_can_be_the_name_of_no_folder_is_no_model(start: Any, name: str, action: str) -> None:
    async with start(admin_key_hashes=ADMIN_HASH) as service:
        check_problem(await service.client.post(f"/v1/models/{name}/{action}", headers=ADMIN), 404, "unknown_model")


async def test_unloading_forgets_a_model_and_loading_brings_it_back(start: Any) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        response = await service.client.post("/v1/models/tiny/unload", headers=ADMIN)
        assert response.json() == {"name": "tiny", "version": None, "state": "unloaded", "role": None, "persistent": False}
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
        detail = check_problem(await service.client.post(f"/v1/models/{path}", headers=ADMIN), status, kind)
        assert str(service.live.settings.models.parent) not in detail


async def test_a_broken_version_is_refused_and_the_old_one_goes_on(start: Any, models: Path) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        (publish_second(models) / "model.onnx").write_bytes(b"broken")
        response = await service.client.post("/v1/models/tiny/load", headers=ADMIN)
        detail = check_problem(response, 500, "invalid_artefact")
        assert detail == "tiny: model.onnx differs from the checksum in manifest.json"
        assert (await service.classify("good")).json()["model"]["version"] == 1


async def test_a_request_in_flight_finishes_on_the_version_it_began_with(
    start: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        (old,) = service.live.registry.deployments
        engine = GatedEngine()
        monkeypatch.setattr(old.scheduler._engines, "_exclusive", engine)
        in_flight = [asyncio.ensure_future(service.classify(text)) for text in ("good", "bad", "film")]
        batch = await engine.batch()
        publish_second(models)
        assert (await service.client.post("/v1/models/tiny/load", headers=ADMIN)).json()["version"] == 2
        assert (await service.classify("good")).json()["model"]["version"] == 2
        assert old.is_alive
        while not all(entry.done() for entry in in_flight):
            batch.finish([output_of(row) for row in batch.rows])
            await turn()
            batch = await engine.batch() if engine.has_batch else batch
        assert [entry.result().json()["model"]["version"] for entry in in_flight] == [1, 1, 1]
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


# --- two versions side by side


@pytest.fixture
async def two(start: Any, models: Path) -> AsyncIterator[Service]:
    """`tiny/1` answers, `tiny/2` lies beside it on the disk; of what is drawn every second number is below one half."""
    draws = itertools.cycle((0.7, 0.2))
    async with start(admin_key_hashes=(ADMIN_HASH,), serve=("tiny/1",), draw=lambda: next(draws)) as service:
        publish_second(models)
        yield service


async def change(service: Service, call: str, body: object = None, status: int = 200) -> Any:
    response = await service.client.post(f"/v1/models/tiny/{call}", headers=ADMIN, json=body)
    assert response.status_code == status, response.text
    return response.json()


async def versions(service: Service, number: int, **asked: object) -> list[int]:
    return [(await service.classify("good", **asked)).json()["model"]["version"] for _ in range(number)]


async def told(service: Service) -> list[tuple[int, str, float]]:
    shown = (await service.client.get("/v1/models")).json()["models"]
    return [(entry["version"], entry["role"], entry["share"]) for entry in shown]


async def test_a_candidate_answers_its_share_and_each_version_what_names_it(two: Service) -> None:
    said = await change(two, "load", {"share": 0.25})
    assert said == {"name": "tiny", "version": 2, "state": "ready", "role": "share", "persistent": False}
    assert await versions(two, 4) == [1, 2, 1, 2]
    assert await versions(two, 3, model="tiny") == [1, 2, 1]
    assert await versions(two, 2, model="tiny/1") == [1, 1]
    assert await versions(two, 2, model="tiny/2") == [2, 2]
    assert await told(two) == [(1, "main", 0.75), (2, "share", 0.25)]
    assert (await two.client.get("/v1/models/tiny")).json()["version"] == 1
    ready = (await two.client.get("/health/ready")).json()
    assert ready == {"status": "ready", "models": ["tiny/1"], "failed": []}
    assert two.sample("hooper_version_requests_total", model="tiny", version="2", status="200") == 5
    assert two.sample("hooper_traffic_share", model="tiny", version="1", role="main") == 0.75


async def test_other_protocols_share_and_name_versions_too(two: Service) -> None:
    await change(two, "load", {"share": 0.25})
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["good"]}]}
    for path, expected in (("", ["1", "2"]), ("/versions/1", ["1", "1"]), ("/versions/2", ["2", "2"])):
        asked = [(await two.client.post(f"/v2/models/tiny{path}/infer", json=body)).json() for _ in range(2)]
        assert [entry["model_version"] for entry in asked] == expected
    assert (await two.client.get("/v2/models/tiny/versions/2/ready")).status_code == 200
    assert (await two.client.get("/v2/models/tiny")).json()["versions"] == ["1", "2"]


async def test_a_share_is_changed_without_loading_the_version_again(two: Service) -> None:
    await change(two, "load", {"share": 0.25})
    loaded = two.live.registry.live[1].deployment
    await change(two, "load", {"share": 1})
    assert two.live.registry.live[1].deployment is loaded
    assert await versions(two, 2) == [2, 2]
    await change(two, "load", {"shadow": True})
    assert two.live.registry.live[1].deployment is loaded
    assert await versions(two, 2) == [1, 1]
    assert await told(two) == [(1, "main", 1.0), (2, "shadow", 0.0)]


async def test_a_promoted_candidate_is_the_main_version_and_a_stopped_one_is_gone(two: Service) -> None:
    await change(two, "load", {"shadow": True})
    assert await change(two, "promote") == {"name": "tiny", "version": 2, "state": "ready", "role": "main", "persistent": True}
    assert await told(two) == [(2, "main", 1.0)]
    await change(two, "load?version=1", {"share": 1.0})
    gone = await change(two, "unload?version=1")
    assert gone == {"name": "tiny", "version": 1, "state": "unloaded", "role": None, "persistent": False}
    assert await told(two) == [(2, "main", 1.0)]
    assert "no other version" in (await change(two, "promote", status=404))["detail"]
    assert "tiny/2 does not run beside" in (await change(two, "unload?version=2", status=404))["detail"]


@pytest.mark.parametrize("body", [None, {}, {"shadow": False}, {"share": None}])
async def test_without_a_role_the_version_becomes_the_main_one(two: Service, body: object) -> None:
    await change(two, "load", {"shadow": True})
    assert (await change(two, "load?version=2", body))["role"] == "main"
    assert await told(two) == [(2, "main", 1.0)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"share": 0}, "share: should be greater than 0"),
        ({"share": 1.5}, "share: should be less than or equal to 1"),
        ({"share": "half"}, "share: "),
        ({"share": 0.5, "shadow": True}, "a shadow has no share"),
        ({"shares": 0.5}, "shares"),
        ([], "body"),
    ],
)
async def test_a_role_that_is_none_is_refused_in_a_sentence(two: Service, body: object, said: str) -> None:
    assert said in (await change(two, "load", body, status=422))["detail"]
    assert await told(two) == [(1, "main", 1.0)]


async def test_what_cannot_run_beside_is_refused_and_the_main_version_goes_on(two: Service, models: Path) -> None:
    beside_itself = await change(two, "load?version=1", {"share": 0.5}, status=422)
    assert beside_itself["detail"] == "version: tiny/1 is the main version itself; name another"
    await change(two, "load?version=9", {"share": 0.5}, status=404)
    (models / "tiny" / "2" / "model.onnx").write_bytes(b"broken")
    assert "checksum" in (await change(two, "load", {"share": 0.5}, status=500))["detail"]
    await change(two, "unload")
    await change(two, "load?version=1", {"shadow": True}, status=404)
    assert await told(two) == []


async def test_a_candidate_must_answer_its_golden_requests(two: Service, models: Path) -> None:
    folder = models / "tiny" / "2"
    golden = golden_of(folder)
    golden[0]["answer"]["labels"][0]["score"] -= 0.5
    change_golden(folder, golden)
    assert "golden request 0 is answered differently" in (await change(two, "load", {"share": 0.5}, status=500))["detail"]
    assert await told(two) == [(1, "main", 1.0)]


async def test_a_candidate_is_refused_where_its_main_version_left_while_it_was_loading(
    two: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, replay = asyncio.Event(), loader._replay_golden

    async def gated(*arguments: Any) -> None:
        await gate.wait()
        await replay(*arguments)

    monkeypatch.setattr(loader, "_replay_golden", gated)
    loading = asyncio.ensure_future(change(two, "load", {"share": 0.5}, status=404))
    await turn()
    await change(two, "unload")
    gate.set()
    assert "nothing that another version could run beside" in (await loading)["detail"]
    await turn()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "scheduler"] == []
    assert await told(two) == []


async def test_a_role_is_for_those_with_an_admin_key(two: Service) -> None:
    for call in ("load", "promote", "unload?version=2"):
        check_problem(await two.client.post(f"/v1/models/tiny/{call}"), 401, "unauthorized")


# --- a shadow


async def compared(service: Service, number: int) -> dict[str, float]:
    """The outcomes, once so many items were compared."""
    labels = {"model": "tiny", "version": "1", "candidate": "2"}
    while True:
        found = {
            outcome: service.sample("hooper_shadow_compared_total", **labels, outcome=outcome) or 0.0
            for outcome in ("agree", "disagree", "failed", "dropped")
        }
        if sum(found.values()) >= number:
            return found
        await asyncio.sleep(0.001)


async def test_a_shadow_is_asked_what_the_main_version_answered_over_every_protocol(two: Service) -> None:
    await change(two, "load", {"shadow": True})
    assert await versions(two, 3) == [1, 1, 1]
    assert await versions(two, 1, model="tiny/1") == [1]
    await compared(two, 4)
    assert (await two.classify(["good", "", "bad"])).json()["results"][1]["error"]["type"] == "invalid_input"
    await compared(two, 6)
    await two.client.post("/models/tiny", json={"inputs": "good film"})
    await compared(two, 7)
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["good"]}]}
    await two.client.post("/v2/models/tiny/infer", json=body)
    await compared(two, 8)
    await two.client.post("/predict", json={"inputs": "good"})
    assert await compared(two, 9) == {"agree": 9.0, "disagree": 0.0, "failed": 0.0, "dropped": 0.0}
    assert two.sample("hooper_drift_items_total", model="tiny", version="2") == 9
    assert two.sample("hooper_version_requests_total", model="tiny", version="2", status="200") is None


async def test_what_a_shadow_is_asked_by_its_name_and_what_is_explained_is_not_compared(two: Service) -> None:
    await change(two, "load", {"shadow": True})
    assert await versions(two, 2, model="tiny/2") == [2, 2]
    assert (await two.ask("explain", "good film")).status_code == 200
    check_problem(await two.classify(""), 422, "invalid_input")
    await turn()
    assert await compared(two, 0) == {"agree": 0.0, "disagree": 0.0, "failed": 0.0, "dropped": 0.0}


async def test_a_shadow_that_decides_otherwise_is_told(start: Any, models: Path) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        publish_tiny(models, version=2, labels=("good", "bad"))  # it calls good what pushes the first label: "bad"
        await change(service, "load", {"shadow": True})
        assert (await service.classify(["good", "bad", "good film"])).json()["model"]["version"] == 1
        assert await compared(service, 3) == {"agree": 0.0, "disagree": 3.0, "failed": 0.0, "dropped": 0.0}


async def test_a_shadow_that_is_stuck_keeps_nobody_waiting(two: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    await change(two, "load", {"shadow": True})
    engine = GatedEngine()
    monkeypatch.setattr(two.live.registry.live[1].deployment.scheduler._engines, "_exclusive", engine)
    assert await versions(two, MAX_IN_FLIGHT + 2) == [1] * (MAX_IN_FLIGHT + 2)
    assert await compared(two, 2) == {"agree": 0.0, "disagree": 0.0, "failed": 0.0, "dropped": 2.0}
    await change(two, "unload?version=2")
    while engine.has_batch:  # or the end of the service would wait for what it drains
        (await engine.batch()).finish()
        await turn()


async def test_a_model_brings_its_own_examples_and_options(start: Start, tmp_path: Path) -> None:
    publish_tiny(tmp_path / "m", "topics", problem_type="multi_label_classification", thresholds={"bad": 0.2})
    async with start(models=tmp_path / "m") as service:
        model = (await service.client.get("/v1/models/topics")).json()
    assert model["examples"][0]["text"] == GOLDEN_TEXTS[0]
    assert model["task_options"] == {"problem_type": "multi_label_classification", "thresholds": {"bad": 0.2}}

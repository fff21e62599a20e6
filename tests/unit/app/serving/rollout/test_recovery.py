"""A model whose engine was lost is loaded again, so many times and no more; the service around it is the real one."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.batching import watchdog
from app.runtime import encoder_engine as encoder_engine_module
from tests.support.faulty_engine import FaultySessionFactory, Hang, raising
from tests.support.mutated_model import sign_again
from tests.support.requests import Service, check_problem

RUN_S = 0.2
ADMIN = {"Authorization": "Bearer admin"}
ADMIN_HASH = hashlib.sha256(b"admin").hexdigest()
DEAD = raising(SystemExit())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_engine_module, "CLOSE_S", 0.01)
    monkeypatch.setattr(watchdog, "GRACE_S", 0.01)


@asynccontextmanager
async def faulty_service(start: Any, **settings: Any) -> AsyncIterator[tuple[Service, FaultySessionFactory]]:
    session_factory = FaultySessionFactory()
    async with start(session_factory=session_factory, engine_run_s=RUN_S, **settings) as service:
        yield service, session_factory


async def lose_engine(service: Service, session_factory: FaultySessionFactory, twist: Any = DEAD) -> str:
    """Ask with an engine that is lost over it; what the caller is told."""
    session_factory.twist = twist
    told = check_problem(await service.classify("good"), 503, "unavailable")
    session_factory.twist = None
    return told


async def until_replaced(service: Service, session_factory: FaultySessionFactory, num_opened: int) -> None:
    """Return once so many engines were opened and the last of them answers."""
    async with asyncio.timeout(30):
        while session_factory.num_opened < num_opened or not service.live.registry.is_ready:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)


async def test_an_engine_that_hangs_is_left_behind_and_another_one_answers(start: Any) -> None:
    async with faulty_service(start) as (service, session_factory):
        hang = Hang()
        told = await lose_engine(service, session_factory, hang)
        assert f"within {RUN_S:g} s, nor stop" in told
        await until_replaced(service, session_factory, 2)
        assert (await service.classify("good")).json()["results"][0]["labels"][0]["label"] == "good"
        assert service.sample("hooper_engines_lost_total", model="tiny") == 1
        assert service.sample("hooper_engine_failures_total", model="tiny", type="engine_lost") == 1
        hang.release()  # and when it comes back, it disturbs nobody
        assert (await service.classify("good")).status_code == 200


async def test_while_an_engine_is_replaced_the_service_is_alive_but_not_ready(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    async with faulty_service(start) as (service, session_factory):

        async def gated(*_: Any) -> None:
            await gate.wait()

        monkeypatch.setattr("app.serving.loader._replay_golden", gated)
        await lose_engine(service, session_factory)
        told = check_problem(await service.client.get("/health/ready"), 503, "unavailable")
        assert told == "the engine of tiny is down"
        assert (await service.client.get("/health/live")).status_code == 200
        check_problem(await service.classify("good"), 503, "unavailable")
        gate.set()
        await until_replaced(service, session_factory, 2)
        assert (await service.classify("good")).status_code == 200


async def test_one_engine_too_many_and_liveness_fails(start: Any) -> None:
    async with faulty_service(start, engine_replacements=2) as (service, session_factory):
        for number in (2, 3):
            await lose_engine(service, session_factory)
            await until_replaced(service, session_factory, number)
            assert (await service.client.get("/health/live")).status_code == 200
        await lose_engine(service, session_factory)
        await beyond_help(service)
        told = check_problem(await service.client.get("/health/live"), 503, "unavailable")
        assert told == "3 engines were lost, of which 2 may be replaced in one process"
        assert (await service.client.get("/v2/health/live")).status_code == 503
        assert session_factory.num_opened == 3
        check_problem(await service.classify("good"), 503, "unavailable")


async def beyond_help(service: Service) -> None:
    async with asyncio.timeout(30):
        while not service.live.registry.fatal_error:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)


async def test_an_engine_that_cannot_be_replaced_in_this_process_fails_liveness(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with faulty_service(start) as (service, session_factory):
        monkeypatch.setattr("app.serving.loader._build", lambda *_: 1 // 0)
        await lose_engine(service, session_factory)
        await beyond_help(service)
        told = check_problem(await service.client.get("/health/live"), 503, "unavailable")
        assert told == "tiny/1 lost its engine and cannot be loaded again in this process: ZeroDivisionError"


async def test_a_model_whose_files_are_gone_stays_down_and_the_others_answer(
    start: Any, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "other" / "1")), name="other")
    async with faulty_service(start) as (service, session_factory):
        shutil.rmtree(models / "tiny")
        session_factory.twist = DEAD
        check_problem(await service.classify("good", model="tiny"), 503, "unavailable")
        session_factory.twist = None
        async with asyncio.timeout(30):
            while "cannot be loaded again" not in caplog.text:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.001)
        assert (await service.classify("good", model="other")).status_code == 200
        assert (await service.client.get("/health/ready")).status_code == 503
        assert (await service.client.get("/health/live")).status_code == 200


@pytest.mark.parametrize("body", [{"share": 1.0}, {"shadow": True}])
async def test_a_candidate_whose_engine_is_lost_falls_away_and_the_main_version_answers(
    start: Any, models: Path, caplog: pytest.LogCaptureFixture, body: object
) -> None:
    settings = {"admin_key_hashes": (ADMIN_HASH,), "serve": ("tiny/1",), "engine_replacements": 0}
    async with faulty_service(start, **settings) as (service, session_factory):
        sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")), version=2)
        assert (await service.client.post("/v1/models/tiny/load", headers=ADMIN, json=body)).status_code == 200
        session_factory.twist = DEAD
        check_problem(await service.classify("good", model="tiny/2"), 503, "unavailable")
        session_factory.twist = None
        assert (await service.classify("good")).json()["model"]["version"] == 1
        assert (await service.client.get("/health/ready")).json()["models"] == ["tiny/1"]
        async with asyncio.timeout(30):
            while len(service.live.registry.live) > 1:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.001)
        check_problem(await service.classify("good", model="tiny/2"), 404, "unknown_model")
        assert service.sample("hooper_engines_lost_total", model="tiny") == 1
        assert "tiny/2 lost its engine and no longer runs beside the main version" in caplog.text
        assert (await service.client.get("/health/live")).status_code == 200
        assert session_factory.num_opened == 2


async def test_a_promoted_candidate_whose_engine_is_lost_is_loaded_again(start: Any, models: Path) -> None:
    async with faulty_service(start, admin_key_hashes=(ADMIN_HASH,), serve=("tiny/1",)) as (service, session_factory):
        sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")), version=2)
        await service.client.post("/v1/models/tiny/load", headers=ADMIN, json={"shadow": True})
        await service.client.post("/v1/models/tiny/promote", headers=ADMIN)
        await lose_engine(service, session_factory)
        await until_replaced(service, session_factory, 3)
        assert (await service.classify("good")).json()["model"]["version"] == 2


async def test_a_model_that_was_unloaded_is_not_loaded_again(start: Any) -> None:
    async with faulty_service(start) as (service, session_factory):
        service.live.registry.remove("tiny")
        await asyncio.gather(*service.live.registry._retiring)
        assert session_factory.num_opened == 1
        assert service.sample("hooper_engines_lost_total", model="tiny") == 0


async def test_a_service_with_a_hung_engine_closes(start: Any) -> None:
    hang = Hang()
    async with faulty_service(start, drain_s=0.01) as (service, session_factory):
        session_factory.twist = hang
        asked = asyncio.ensure_future(service.classify("good"))
        await asyncio.to_thread(hang.begun.wait)
    check_problem(await asked, 503, "unavailable")
    hang.release()


# --- files that vanish


@pytest.mark.parametrize("gone", ["tiny/1/model.onnx", "tiny/1/tokenizer.json", "tiny/1/manifest.json", "tiny", "."])
async def test_a_model_goes_on_when_its_files_vanish_and_loading_it_again_is_refused_in_a_sentence(
    start: Any, models: Path, gone: str
) -> None:
    async with start(admin_key_hashes=(ADMIN_HASH,)) as service:
        path = models / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        refused = await service.client.post("/v1/models/tiny/load", headers=ADMIN)
        assert refused.status_code in (404, 500)
        assert refused.json()["type"] in ("unknown_model", "invalid_artefact")
        assert "tiny" in refused.json()["detail"] or "does not exist" in refused.json()["detail"]
        assert (await service.classify("good")).status_code == 200
        assert (await service.client.get("/health/ready")).status_code == 200

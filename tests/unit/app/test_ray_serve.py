"""One replica of Ray Serve, without a cluster: when it is fit to answer, and what it refuses to be built from."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.artefact import write_serving
from app.core.errors import InvalidArtefact, InvalidSettings, Unavailable
from app.settings import Settings
from tests.support.mutated_model import sign_again

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'hooper[ray]')")

from app import ray_serve  # noqa: E402 - it cannot be imported where Ray is not
from app.ray_serve import OneRequestId, Replica, build, with_threads  # noqa: E402


@asynccontextmanager
async def replica(
    models: Path, monkeypatch: pytest.MonkeyPatch, cores: float = 1.0, **settings: Any
) -> AsyncIterator[tuple[Replica, Any]]:
    """A replica as Ray makes it, and its application within its lifespan."""
    monkeypatch.setattr(ray_serve, "assigned_cores", lambda: cores)  # there is no cluster that assigns any
    monkeypatch.setattr(ray_serve, "set_up_logging", lambda *_, **__: None)
    made = Replica(Settings(models=models, device="cpu", **settings))
    app = made.__serve_build_asgi_app__()
    async with app.router.lifespan_context(app):
        yield made, app


async def test_its_first_check_passes_when_its_models_are_loaded(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with replica(models, monkeypatch) as (one, app):
        assert not app.state.hooper.registry.is_ready
        await one.check_health()
        assert app.state.hooper.registry.is_ready


async def test_a_check_that_is_given_up_does_not_end_the_loading(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with replica(models, monkeypatch) as (one, app):
        check = asyncio.create_task(one.check_health())
        await asyncio.sleep(0)  # it has begun to wait
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check
        assert not app.state.hooper.registry.is_ready
        await one.check_health()
        assert app.state.hooper.registry.is_ready


async def test_a_model_that_cannot_be_loaded_fails_the_check_with_its_sentence(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models / "tiny" / "1" / "model.onnx").write_bytes(b"broken")
    async with replica(models, monkeypatch) as (one, _):
        with pytest.raises(InvalidArtefact, match=r"model\.onnx differs from the checksum"):
            await one.check_health()


async def test_only_a_model_that_the_settings_name_fails_the_check_where_another_is_loaded(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Path(shutil.copytree(models / "tiny" / "1", models / "broken" / "1"))
    sign_again(broken, name="broken")
    (broken / "model.onnx").write_bytes(b"broken")
    async with replica(models, monkeypatch) as (one, app):
        await one.check_health()
        assert [failed.id for failed in app.state.hooper.registry.failed] == ["broken/1"]
    async with replica(models, monkeypatch, serve=("tiny", "broken")) as (one, _):
        with pytest.raises(Unavailable, match="model 'broken' could not be loaded"):
            await one.check_health()


async def test_a_replica_reads_at_its_start_which_version_serves(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")), version=2)
    write_serving(models / "tiny", 1, "loaded")
    async with replica(models, monkeypatch) as (one, app):
        await one.check_health()
        assert [deployment.manifest.version for deployment in app.state.hooper.registry.deployments] == [1]


async def test_a_dead_engine_fails_the_check_and_ray_replaces_the_replica(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replica(models, monkeypatch) as (one, app):
        await one.check_health()
        (deployment,) = app.state.hooper.registry.deployments
        await deployment.scheduler.aclose(0)
        with pytest.raises(Unavailable, match="the engine of tiny is down"):
            await one.check_health()


@pytest.mark.parametrize(("cores", "threads"), [(0.0, 1), (0.5, 1), (2.0, 2), (2.5, 3)])
async def test_its_engine_has_the_threads_that_ray_set_aside(
    models: Path, monkeypatch: pytest.MonkeyPatch, cores: float, threads: int
) -> None:
    async with replica(models, monkeypatch, cores) as (one, app):
        await one.check_health()
        assert [model.num_threads for model in app.state.hooper.registry.deployments] == [threads]


def test_threads_that_were_set_are_kept() -> None:
    assert with_threads(Settings(engine_threads=7), 2.0).engine_threads == 7


# --- the request id


@pytest.mark.parametrize(("coming", "left"), [("same", []), ("other", [b"same"])])
async def test_an_id_that_the_proxy_repeats_is_sent_once(coming: str, left: list[bytes]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"x-request-id", b"same"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with httpx.AsyncClient(transport=httpx.ASGITransport(OneRequestId(app)), base_url="http://hooper") as client:
        response = await client.get("/", headers={"X-Request-Id": coming})
    assert [value for name, value in response.headers.raw if name == b"x-request-id"] == left
    assert response.headers["content-length"] == "0"


# --- what it is built from


@pytest.fixture(autouse=True)
def no_usage_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


def options_of(application: Any) -> Any:
    return application._bound_deployment._deployment_config


def test_what_a_replica_takes_and_how_long_it_drains_follow_from_the_settings(tmp_path: Path) -> None:
    options = options_of(build({"models": str(tmp_path), "max_batch_rows": "10", "max_waiting_rows": 99, "drain_s": 7}))
    assert options.max_ongoing_requests == 20
    assert options.max_queued_requests == 99
    assert options.graceful_shutdown_timeout_s == 8


@pytest.mark.parametrize(("options", "hosts"), [({}, ("*",)), ({"allowed_hosts": "a.example"}, ("a.example",))])
def test_rays_proxies_may_be_reached_under_any_name_unless_some_are_given(
    tmp_path: Path, options: dict[str, str], hosts: tuple[str, ...]
) -> None:
    (settings,) = build({"models": str(tmp_path), **options})._bound_deployment.init_args
    assert settings.allowed_hosts == hosts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": "models"}, "HOOPER_MODELS=models must be an absolute path under Ray Serve"),
        ({"state": "state"}, "HOOPER_STATE=state must be an absolute path under Ray Serve"),
        ({"models": "/m", "admin_key_hashes": "0" * 64}, "loading a model would reach one replica of many"),
        ({"models": "/m", "front_ends": 2}, "HOOPER_FRONT_ENDS cannot be used under Ray Serve"),
        ({"models": "/m", "ssl_certfile": "/c"}, "HOOPER_SSL_CERTFILE cannot be used under Ray Serve"),
        ({"models": "/m", "devise": "cpu"}, "HOOPER_DEVISE"),
        ({"models": "/m", "drain_s": -1}, "HOOPER_DRAIN_S=-1"),
    ],
)
def test_settings_that_mean_nothing_on_many_machines_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        build(options)


def test_settings_come_from_the_environment_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOPER_MODELS", str(tmp_path))
    monkeypatch.setenv("HOOPER_MAX_BATCH_ROWS", "3")
    assert options_of(build({})).max_ongoing_requests == 6
    assert not ray.is_initialized()  # building starts no cluster

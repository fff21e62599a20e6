"""Tiny models on disk, deployments whose engine is driven by hand, and the application over either of them."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from pydantic import BaseModel

from app.api import application, openapi
from app.api.application import build_application
from app.api.context import AppState
from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.batching.scheduler import Scheduler
from app.core.errors import UnknownModel
from app.core.manifest import read_manifest
from app.main import create_app
from app.observability.metrics import Metrics
from app.runtime.onnx_session import SessionFactory, open_session
from app.serving.deployment import Deployment
from app.serving.registry import Registry
from app.serving.rollout.lease import Role
from app.serving.rollout.shadow import Shadows
from app.settings import PREFIX, Settings
from app.tasks.registry import Tasks, installed_tasks
from app.tasks.text_classification.spec import SPEC
from app.tasks.text_classification.task import TextClassification
from tests.support.echo_writer import echoing
from tests.support.gated_engine import Deploy, Gated, GatedEngine
from tests.support.requests import GatedService, Service
from tests.support.tiny_model import KINDS, publish_tiny, publish_tiny_task, tiny_tokenizer, tokenizer_json

SHARED = {"asked_service", "every_task", "echo_service"}
"""Services that are built once, since building one costs more than most tests do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks a shared service does so in the event loop that it lives in."""
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and item.get_closest_marker("asyncio")
            and not SHARED.isdisjoint(item.fixturenames)
        ):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def routes_are_built_once() -> Iterator[None]:
    """They follow from the tasks alone, and to build them costs five times what the rest of a service does; so does the OpenAPI
    file, which takes a hundred times as long. `test_openapi.py` has it written anew."""
    made: dict[int, tuple[Tasks, application.Routes]] = {}
    build = application.routes_of
    written: dict[tuple[object, ...], dict[str, Any]] = {}

    def routes_of(tasks: Tasks) -> application.Routes:
        if id(tasks) not in made:
            made[id(tasks)] = (tasks, build(tasks))  # with the tasks, so that no others get their id
        return made[id(tasks)][1]

    def document(app: FastAPI, *bodies: type[BaseModel]) -> None:
        openapi.document(app, *bodies)
        write = app.openapi

        def once() -> dict[str, Any]:
            key = (app.version, *bodies)
            if key not in written:
                written[key] = write()
            return written[key]

        app.openapi = once  # type: ignore[method-assign]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(application, "routes_of", routes_of)
        patched.setattr(application, "document", document)
        yield


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with `tiny/1`, to be copied and never changed."""
    root = tmp_path_factory.mktemp("published")
    publish_tiny(root)
    return root


@pytest.fixture
def models(published: Path, tmp_path: Path) -> Path:
    """A model repository with `tiny/1` of the test's own."""
    return Path(shutil.copytree(published, tmp_path / "models"))


@pytest.fixture
async def deploy(published: Path) -> AsyncIterator[Deploy]:
    """Makes deployments; closes them after the test."""
    manifest = read_manifest(published / "tiny" / "1")
    task = TextClassification(tiny_tokenizer(), ["bad", "good"])
    made: list[Gated] = []

    def make(name: str = "tiny", version: int = 1, limit: QueueLimit | None = None, metrics: Metrics | None = None) -> Gated:
        engine, metrics = GatedEngine(), metrics or Metrics()
        scheduler = Scheduler(engine, Budget(64, 8, "packed"), limit or QueueLimit(100, 1000))
        named = manifest.model_copy(update={"name": name, "version": version})
        gated = Gated(Deployment(named, SPEC, task, engine, scheduler, metrics, [tokenizer_json()]), engine, metrics)  # type: ignore[arg-type]
        made.append(gated)
        return gated

    yield make
    for entry in made:
        await entry.deployment.aclose(0)


Start = Callable[..., AbstractAsyncContextManager[Service]]


@asynccontextmanager
async def running(
    session_factory: SessionFactory = open_session, draw: Callable[[], float] = random.random, **settings: Any
) -> AsyncIterator[Service]:
    """The service with these settings, once it has loaded its models."""
    named = Settings(**{"device": "cpu", "engine_threads": 1, **settings})
    app = create_app(named, session_factory=session_factory, draw=draw)
    async with app.router.lifespan_context(app), _client(app) as client:
        await app.state.loading
        yield Service(app, client)


@pytest.fixture
def start(models: Path) -> Start:
    """Starts the service over `models`, with these settings, and waits until it has loaded them."""
    return partial(running, models=models)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def asked_service(published: Path) -> AsyncIterator[Service]:
    """What `service` is, one for the whole session."""
    async with running(models=published) as one:
        yield one


@pytest.fixture
def service(asked_service: Service) -> Service:
    """The service over a model, as it comes: for tests that ask and change nothing."""
    return asked_service


@pytest.fixture
async def own_service(start: Start) -> AsyncIterator[Service]:
    """One over `models`, which the test may change."""
    async with start() as one:
        yield one


@pytest.fixture(scope="session")
def published_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with a tiny model of every task, named after it; never changed."""
    root = tmp_path_factory.mktemp("tasks")
    for task in KINDS:
        publish_tiny_task(root, task, task)
    return root


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def every_task(published_tasks: Path) -> AsyncIterator[Service]:
    """The service over a model of every task: for tests that ask and change nothing."""
    async with running(models=published_tasks) as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def echo_service() -> AsyncIterator[Service]:
    """The service over a model of every task that writes, which say again what they read: for tests that change nothing."""
    async with echoing() as (service, _):
        yield service


@pytest.fixture
async def gated_service(deploy: Deploy) -> AsyncIterator[GatedService]:
    """The application over one deployment, `tiny/1`, whose engine the test drives; its queue takes four rows."""
    metrics = Metrics()
    gated = deploy(limit=QueueLimit(4, 1000), metrics=metrics)
    registry = Registry(drain_s=0)
    registry.replace(gated.deployment)
    registry.loading_finished()

    async def load(name: str, version: int | None, role: Role) -> Deployment:
        raise UnknownModel(name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.hooper = AppState(Settings(), installed_tasks(), registry, metrics, load, Shadows(registry, metrics))
        metrics.track(lambda: [deployment.live_model() for deployment in registry.deployments])
        yield
        await registry.aclose()

    app = build_application(Settings(), installed_tasks(), metrics, lifespan)
    async with app.router.lifespan_context(app), _client(app) as client:
        yield GatedService(app, client, gated)


def _client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

"""A service over a tiny model of every task, the built-in ones and that of the example package, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.tasks.registry import BUILT_IN, Tasks, installed_tasks
from app.tasks.spec import TaskSpec
from tests.support.live_service import serving
from tests.support.plugins import POLARITY, install_example, on_path
from tests.support.tiny_model import publish_tiny_spec

TASK_NAMES = [*(spec.name for spec in BUILT_IN), POLARITY]


@dataclass(frozen=True)
class World:
    """What a test of one task may ask."""

    tasks: Tasks
    site: Path
    """Where the example package is installed."""
    models: Path
    """A repository with a tiny model of every task, named after it; never changed."""
    client: httpx.Client

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        response = self.client.post(path, json=body)
        assert response.status_code == status, f"{path} {body}: {response.text}"
        return response.json()


@pytest.fixture(scope="package")  # so that no test of another folder finds the package in this process
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("contracts")
    site = install_example(root / "site")
    with on_path(site):
        tasks = installed_tasks()
        for spec in tasks.values():
            publish_tiny_spec(root / "models", spec)
        with (
            serving(root / "models", site=site, feedback=root / "feedback.db") as running,
            running.client() as client,
        ):
            yield World(tasks, site, root / "models", client)


@pytest.fixture(params=TASK_NAMES)
def spec(world: World, request: pytest.FixtureRequest) -> TaskSpec:
    return world.tasks[request.param]

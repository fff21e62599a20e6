"""A service over a tiny model that ranks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.tasks.registry import installed_tasks
from tests.support.requests import Service
from tests.support.tiny_model import publish_tiny_spec
from tests.unit.app.conftest import Start


@pytest.fixture(scope="module")
def rankers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rankers")
    publish_tiny_spec(root, installed_tasks()["text-ranking"])
    return root


@pytest.fixture
async def ranker(rankers: Path, start: Start) -> AsyncIterator[Service]:
    async with start(models=rankers) as service:
        yield service

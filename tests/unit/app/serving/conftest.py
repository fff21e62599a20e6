"""Loading `tiny/1` as it lies there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.batching.admission import QueueLimit
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment
from app.serving.loader import LoadOptions, load
from app.serving.repository import Repository

OPTIONS = LoadOptions(device="cpu", num_threads=1, max_batch_tokens=64, max_batch_rows=8, queue=QueueLimit(100, 1000))
Load = Callable[..., Awaitable[Deployment]]


@pytest.fixture
def folder(models: Path) -> Path:
    return models / "tiny" / "1"


@pytest.fixture
async def load_tiny(models: Path) -> AsyncIterator[Load]:
    """Loads `tiny/1` as it lies there; closes it after the test."""
    loaded: list[Deployment] = []

    async def load_it(metrics: Metrics | None = None, **options: Any) -> Deployment:
        artefact = Repository(models).open("tiny", 1)
        loaded.append(await load(artefact, replace(OPTIONS, **options), metrics or Metrics()))
        return loaded[-1]

    yield load_it
    for entry in loaded:
        await entry.aclose(0)

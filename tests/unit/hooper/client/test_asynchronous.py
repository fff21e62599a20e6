"""The client that is awaited, against the application itself and an engine that the test drives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from hooper import AsyncClient
from hooper.errors import TimedOut, Unreachable
from tests.support.scripted_server import Reply, envelope, scripted_server
from tests.support.tiny_model import publish_tiny


class Waiting(AsyncClient):
    """Notes how long it would wait."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pauses: list[float] = []

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[AsyncClient]:
    publish_tiny(tmp_path)
    app = create_app(Settings(models=tmp_path, device="cpu", engine_threads=1, max_items=40))
    async with app.router.lifespan_context(app):
        await app.state.loading
        async with AsyncClient("http://localhost", transport=httpx.ASGITransport(app)) as client:
            yield client


def labels(answers: Any) -> list[str]:
    return [answer.labels[0].label for answer in answers]


async def test_texts_get_typed_results_in_order(client: AsyncClient) -> None:
    assert labels(await client.classify("a good film")) == ["good"]
    answers = await client.classify(["good", "bad"] * 300)
    assert labels(answers) == ["good", "bad"] * 300
    assert len(answers.request_ids) > 14
    assert (await client.health()).models == ["tiny/1"]
    assert [model.name for model in await client.models()] == ["tiny"]


async def test_iterables_of_either_kind_are_answered_as_they_come(client: AsyncClient) -> None:
    async def texts() -> AsyncIterator[str]:
        for _ in range(500):
            yield "good"

    assert len([result async for result in client.classify_many(texts())]) == 500
    assert len([result async for result in client.classify_many(iter(["bad"] * 300))]) == 300


async def test_who_stops_reading_leaves_nothing_behind(client: AsyncClient) -> None:
    before = asyncio.all_tasks()
    results = client.classify_many("good" for _ in range(100_000))
    async for _ in results:
        break
    await results.aclose()  # type: ignore[attr-defined]  # a generator
    assert asyncio.all_tasks() - before == set()


async def test_a_slow_service_costs_no_more_time_than_the_caller_has() -> None:
    with scripted_server(Reply(hangs=True)) as server:
        async with AsyncClient(server.url, timeout=0.2) as client:
            with pytest.raises(TimedOut):
                await client.classify(["x"] * 1000)


async def test_what_failed_is_asked_again_and_a_correction_never() -> None:
    with scripted_server(Reply(closes=True), Reply(200, envelope("good"))) as server:
        async with Waiting(server.url) as client:
            assert labels(await client.classify("x")) == ["good"]
    with scripted_server(Reply(closes=True)) as server:
        async with Waiting(server.url) as client:
            with pytest.raises(Unreachable):
                await client.feedback({"text": "a", "label": "b"})
            assert len(server.requests) == 1

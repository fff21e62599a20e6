"""Two versions of a model behind a real `hooper serve`: with a share, as a shadow, promoted, while many ask."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.live_service import LiveService, serving
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import publish_tiny

ADMIN = {"Authorization": "Bearer admin"}
NUM_CALLERS = 8


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LiveService]:
    """`tiny/1` is served; `tiny/2` is a copy of it, `tiny/3` decides the other way round."""
    models = tmp_path / "models"
    publish_tiny(models)
    sign_again(Path(shutil.copytree(models / "tiny" / "1", models / "tiny" / "2")), version=2)
    publish_tiny(models, version=3, labels=("good", "bad"))
    with serving(models, serve="tiny/1", admin_key_hashes=hashlib.sha256(b"admin").hexdigest()) as running:
        yield running


@pytest.fixture
async def client(service: LiveService) -> AsyncIterator[httpx.AsyncClient]:
    async with service.async_client() as made:
        yield made


async def change(client: httpx.AsyncClient, call: str, body: Any = None) -> Any:
    response = await client.post(f"/v1/models/tiny/{call}", json=body, headers=ADMIN)
    assert response.status_code == 200, response.text
    return response.json()


async def ask(client: httpx.AsyncClient, number: int, **named: str) -> Counter[int]:
    """Versions that answered so many requests of several callers; none may fail, and all must be right."""
    versions: Counter[int] = Counter()
    coming = iter(range(number))

    async def call() -> None:
        for _ in coming:
            response = await client.post("/v1/classify", json={"inputs": ["good film", "bad"], **named})
            assert response.status_code == 200, response.text
            answer = response.json()
            expected = ["bad", "good"] if answer["model"]["version"] == 3 else ["good", "bad"]
            assert [entry["labels"][0]["label"] for entry in answer["results"]] == expected
            versions[answer["model"]["version"]] += 1

    await asyncio.gather(*(call() for _ in range(NUM_CALLERS)))
    return versions


async def told(client: httpx.AsyncClient, metric: str, label: str) -> dict[str, float]:
    page = (await client.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {sample.labels[label]: sample.value for sample in samples if sample.name == metric}


async def compared(client: httpx.AsyncClient, number: int) -> dict[str, float]:
    """The outcomes, once so many items of copies have come to an end."""
    while True:
        found = await told(client, "hooper_shadow_compared_total", "outcome")
        if sum(found.values()) >= number:
            return found


async def test_a_share_of_the_requests_is_answered_by_the_candidate(client: httpx.AsyncClient) -> None:
    assert (await change(client, "load?version=2", {"share": 0.5}))["role"] == "share"
    versions = await ask(client, 200)
    assert versions[1] + versions[2] == 200
    assert min(versions[1], versions[2]) > 50  # by chance once in 10^12 runs
    assert await ask(client, 20, model="tiny/1") == {1: 20}
    assert await ask(client, 20, model="tiny/2") == {2: 20}
    shown = (await client.get("/v1/models")).json()["models"]
    assert [(entry["version"], entry["role"], entry["share"]) for entry in shown] == [(1, "main", 0.5), (2, "share", 0.5)]
    counted = await told(client, "hooper_version_requests_total", "version")
    assert counted == {"1": versions[1] + 20, "2": versions[2] + 20}
    await change(client, "load?version=2", {"share": 1})
    assert await ask(client, 20) == {2: 20}


@pytest.mark.parametrize(("version", "outcome"), [pytest.param(2, "agree", marks=pytest.mark.slow), (3, "disagree")])
async def test_a_shadow_s_agreement_is_counted_and_callers_get_the_main_version(
    client: httpx.AsyncClient, version: int, outcome: str
) -> None:
    assert (await change(client, f"load?version={version}", {"shadow": True}))["role"] == "shadow"
    for _ in range(5):  # one after the other: none is dropped
        assert (await client.post("/v1/classify", json={"inputs": "good"})).json()["model"]["version"] == 1
        await compared(client, 1)
    found = await compared(client, 5)
    assert found == {name: 5.0 if name == outcome else 0.0 for name in ("agree", "disagree", "failed", "dropped")}
    assert await ask(client, 100) == {1: 100}
    found = await compared(client, 205)
    assert sum(found.values()) == 205
    assert found[outcome] + found["dropped"] == 205


async def test_a_candidate_is_promoted_and_stopped_under_requests_and_none_fails(client: httpx.AsyncClient) -> None:
    asked = asyncio.ensure_future(ask(client, 600))
    await change(client, "load?version=2", {"share": 0.5})
    await change(client, "load?version=2", {"shadow": True})
    await change(client, "promote")
    await change(client, "load?version=1", {"share": 0.5})
    await change(client, "unload?version=1")
    assert sum((await asked).values()) == 600
    assert await ask(client, 20) == {2: 20}
    assert (await client.get("/health/ready")).json()["models"] == ["tiny/2"]

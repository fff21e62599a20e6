"""The real service on a GPU answers all three tasks, and says what it runs on. See conftest.py."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from app.runtime.providers import EXECUTION_PROVIDERS
from scripts.bench.texts import profile_texts
from tests.gpu.conftest import FOLDERS, MODELS, Device
from tests.support.live_service import serving

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

PORTRAIT = "The portrait was painted by Maria Lopez in 1899 and hangs in Madrid."


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "cuda graphs"])
def client(request: pytest.FixtureRequest, device: Device) -> Iterator[httpx.Client]:
    """Of a service that packs as much into a batch as a GPU wants."""
    if request.param and device == "cpu":
        pytest.skip("a CPU captures no graphs, and the service refuses to pretend")
    more = {"cuda_graphs": True} if request.param else {}
    with (
        serving(MODELS, device=device, engine_threads=None, max_batch_tokens=16_384, **more) as running,
        running.client() as made,
    ):
        yield made


def asked(client: httpx.Client, route: str, **body: Any) -> Any:
    response = client.post(f"/v1/{route}", json=body)
    assert response.status_code == 200, response.text
    return response.json()["results"]


def test_every_shipped_model_says_that_it_runs_on_the_device(client: httpx.Client, device: Device) -> None:
    loaded = {entry["name"]: entry for entry in client.get("/v1/models").json()["models"]}
    assert loaded.keys() == {folder.parent.name for folder in FOLDERS}
    for entry in loaded.values():
        assert entry["state"] == "ready"
        assert entry["execution_providers"][0] == EXECUTION_PROVIDERS[device]


def test_texts_are_classified(client: httpx.Client) -> None:
    texts = ["A masterpiece: every scene is beautiful.", "Boring, predictable and far too long."]
    found = asked(client, "classify", inputs=texts, model="sentiment")
    assert [match["labels"][0]["label"] for match in found] == ["positive", "negative"]


def test_a_question_is_answered(client: httpx.Client) -> None:
    (found,) = asked(client, "answer", inputs={"question": "Who painted the portrait?", "context": PORTRAIT}, model="qa")
    assert "Maria Lopez" in found["answers"][0]["answer"]


def test_a_text_is_summarized(client: httpx.Client) -> None:
    text = " ".join([PORTRAIT, "The museum bought it in 1950.", "It rains today.", "Many people come to see it every year."])
    (found,) = asked(client, "summarize", inputs=text, model="summary")
    assert found["sentences"]
    assert all(text[match["start"] : match["end"]] == match["text"] for match in found["sentences"])


def test_many_callers_at_once_get_what_each_gets_alone(client: httpx.Client) -> None:
    texts = profile_texts("mixed")[:64]
    tolerance = 0.02 if client.get("/v1/models/sentiment").json()["precision"] == "fp32" else 0.1

    def score(text: str) -> float:
        (found,) = asked(client, "classify", inputs=text, model="sentiment")
        return float(next(match["score"] for match in found["labels"] if match["label"] == "positive"))

    alone = [score(text) for text in texts]
    with ThreadPoolExecutor(16) as callers:
        for _ in range(3):
            assert list(callers.map(score, texts)) == pytest.approx(alone, abs=tolerance)

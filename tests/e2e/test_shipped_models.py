"""The models of this repository, served as `make serve` serves them, asked what a person would ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.serving.repository import Repository
from tests.live import ROOT, Running, serving

MODELS = ROOT / "models"

PRAISE = [
    "I laughed, I cried, and I would see it again tomorrow.",
    "A masterpiece: every scene is beautiful and the actors are superb.",
    "The kindest, funniest and most moving story of the year.",
    "Wonderful from the first minute to the last.",
]
BLAME = [
    "A dreadful waste of two hours; I walked out before the end.",
    "The plot is stupid, the acting is wooden and the jokes are painfully unfunny.",
    "Boring, predictable and far too long.",
    "This is the worst film I have ever had to sit through.",
]
PLAIN = "They sat at the table and talked about the weather while the train went by. "
LONG = PLAIN * 60 + "It was a terrible, boring, ugly film and I hated every minute of it. " * 15


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with serving(MODELS, device=None, engine_threads=None) as running:
        yield running


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client() as made:
        yield made


def classify(client: httpx.Client, inputs: Any, **options: Any) -> Any:
    response = client.post("/v1/classify", json={"inputs": inputs, "model": "sentiment", **options})
    assert response.status_code == 200, response.text
    return response.json()["results"]


def test_every_published_model_is_loaded_and_says_what_it_runs_on(client: httpx.Client) -> None:
    repository = Repository(MODELS)
    assert "sentiment" in repository.names()
    loaded = {one["name"]: one for one in client.get("/v1/models").json()["models"]}
    assert list(loaded) == repository.names()
    for one in loaded.values():
        assert one["state"] == "ready"
        assert one["execution_providers"]
        assert one["parity"]["fp32"]["passed"]


def test_the_shipped_models_stay_small() -> None:
    sizes = {path: path.stat().st_size for path in MODELS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 150e6
    assert sum(size for path, size in sizes.items() if path.parts[-3] == "sentiment") < 30e6


@pytest.mark.parametrize(("texts", "label"), [(PRAISE, "positive"), (BLAME, "negative")])
def test_what_is_obvious_is_told_right(client: httpx.Client, texts: list[str], label: str) -> None:
    for text, result in zip(texts, classify(client, texts), strict=True):
        best = result["labels"][0]
        assert best["label"] == label, text
        assert best["score"] > 0.8, text


def test_a_text_alone_scores_as_it_does_in_a_list(client: httpx.Client) -> None:
    together = classify(client, [*PRAISE, LONG, *BLAME])
    (alone,) = classify(client, PRAISE[0])
    assert alone["labels"][0]["score"] == pytest.approx(together[0]["labels"][0]["score"], abs=0.02)


def test_a_long_text_is_cut_refused_or_read_in_windows_as_the_caller_wishes(client: httpx.Client) -> None:
    limit = client.get("/v1/models/sentiment").json()["limits"]["max_tokens"]
    (cut,) = classify(client, LONG)
    assert (cut["num_tokens"], cut["truncated"]) == (limit, True)
    (read,) = classify(client, LONG, truncation="window")
    assert read["num_tokens"] > 2 * limit
    assert not read["truncated"]
    # what is said only at the end is lost with the cut
    score = {mode: {one["label"]: one["score"] for one in result["labels"]} for mode, result in (("cut", cut), ("read", read))}
    assert score["read"]["negative"] > score["cut"]["negative"]
    refused = client.post("/v1/classify", json={"inputs": LONG, "model": "sentiment", "truncation": "error"})
    assert refused.status_code == 413
    assert str(limit) in refused.json()["detail"]


def test_the_examples_of_the_docs_page_run_on_the_shipped_models(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    for example in schema["components"]["schemas"]["ClassifyRequest"]["examples"]:
        assert client.post("/v1/classify", json=example).status_code == 200

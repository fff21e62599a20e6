"""`POST /v1/zero-shot`: labels beside texts or within them, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.requests import Service
from tests.support.tiny_model import publish_tiny
from tests.unit.app.conftest import Start

LABELS = ["good", "bad", "very good"]
NLI = ("entailment", "neutral", "contradiction")


@pytest.fixture(scope="module")
def inferring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nli")
    publish_tiny(root, "nli", labels=NLI, max_tokens=48)
    publish_tiny(root, "sentiment")
    return root


@pytest.fixture
async def nli(inferring: Path, start: Start) -> AsyncIterator[Service]:
    async with start(models=inferring) as service:
        yield service


async def ask(service: Service, inputs: Any, status: int = 200, **options: Any) -> Any:
    response = await service.client.post("/v1/zero-shot", json={"inputs": inputs, "model": "nli", **options})
    assert response.status_code == status, response.text
    answer = response.json()
    return answer["results"] if status == 200 else answer["detail"]


def scores(result: dict[str, Any]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in result["labels"]}


async def test_scores_are_made_of_the_logits_of_each_labels_sentence(nli: Service) -> None:
    """As transformers makes them: a pair of the text and the sentence for each label."""
    pairs = [{"text": "the film was good", "text_pair": f"a film is {label} ."} for label in LABELS]
    response = await nli.client.post("/v1/classify", json={"inputs": pairs, "model": "nli", "activation": "none"})
    logits = np.array([[scores(result)[name] for name in NLI] for result in response.json()["results"]])
    options = {"labels": LABELS, "hypothesis_template": "a film is {} ."}
    (single,) = await ask(nli, "the film was good", **options)
    shares = np.exp(logits[:, 0]) / np.exp(logits[:, 0]).sum()
    assert scores(single) == pytest.approx(dict(zip(LABELS, shares.tolist(), strict=True)), rel=1e-4)
    (several,) = await ask(nli, "the film was good", multi_label=True, **options)
    odds = 1 / (1 + np.exp(logits[:, 2] - logits[:, 0]))
    assert scores(several) == pytest.approx(dict(zip(LABELS, odds.tolist(), strict=True)), rel=1e-4)
    assert all(entry["selected"] == (entry["score"] >= 0.5) for entry in several["labels"])
    assert single["method"] == "entailment"
    assert "selected" not in single["labels"][0]
    (alone,) = await ask(nli, "the film was good", labels=["good"], hypothesis_template="a film is {} .")
    assert scores(alone)["good"] == pytest.approx(odds[0], rel=1e-4)


async def test_labels_come_best_first_and_equal_ones_as_they_were_sent(nli: Service) -> None:
    (result,) = await ask(nli, "the film was good", labels=["unknown", "strange", "good"])  # two that the tokenizer lacks
    told = [entry["score"] for entry in result["labels"]]
    assert told == sorted(told, reverse=True)
    names = [entry["label"] for entry in result["labels"]]
    assert names.index("unknown") + 1 == names.index("strange")


async def test_labels_stand_beside_the_texts_or_within_each(nli: Service) -> None:
    beside = await ask(nli, ["the film was good", "bad"], labels="good, bad")
    within = await ask(nli, [{"text": "the film was good", "labels": ["good", "bad"]}, {"text": "bad", "labels": "good,bad"}])
    assert beside == within
    assert len(beside) == 2


async def test_an_item_that_cannot_be_answered_stands_in_its_place(nli: Service) -> None:
    first, second, third, last = await ask(nli, ["good", "", {"text": "bad", "labels": ["x"]}, 7], labels=["good", "bad"])
    assert scores(first).keys() == {"good", "bad"}
    assert second["error"]["detail"] == "text: must not be empty"
    assert "labels: stand in an item and beside" in third["error"]["detail"]
    assert set(last) == {"error"}


@pytest.mark.parametrize(
    ("inputs", "options", "detail"),
    [
        ("good", {}, "labels: are missing"),
        ("good", {"labels": []}, "labels: are missing"),
        ({"text": "good", "labels": ["a"]}, {"labels": ["b"]}, "labels: stand in an item and beside"),
        ("good", {"labels": ["a", "b", "a"]}, "labels: 'a' is there twice"),
        ("good", {"labels": ["a", " "]}, "labels: must not be empty"),
        ("good", {"labels": ["a"], "hypothesis_template": "about it"}, "hypothesis_template: must hold {}"),
        ("good", {"labels": ["x" * 300]}, "labels"),
        ("good", {"labels": "a, " + "x" * 300}, "labels: has a name of 300 characters, of at most 200"),
        ("good", {"labels": ",".join(map(str, range(300)))}, "labels: are 300, of at most 256"),
        ({"text": "good", "labels": []}, {"labels": ["b"]}, "labels: stand in an item and beside"),
        ("good", {"labels": 7}, "labels"),
        (" ", {"labels": ["a"]}, "inputs: must not be empty"),
    ],
)
async def test_what_is_wrong_is_named(nli: Service, inputs: Any, options: dict[str, Any], detail: str) -> None:
    assert (await ask(nli, inputs, 422, **options)).startswith(detail)


async def test_many_names_may_stand_in_one_text(nli: Service) -> None:
    (answer,) = await ask(nli, "good", labels=", ".join(f"the label number {number}" for number in range(20)))
    assert len(scores(answer)) == 20


async def test_a_long_text_is_read_in_windows_or_cut(nli: Service) -> None:
    text = "bad film . " * 40
    (read,) = await ask(nli, text, labels=LABELS)
    (cut,) = await ask(nli, text, labels=LABELS, truncation="truncate")
    assert (read["truncated"], cut["truncated"]) == (False, True)
    assert read["num_tokens"] > cut["num_tokens"]
    assert "more than 48 tokens" in await ask(nli, text, 413, labels=LABELS, truncation="error")


async def test_many_labels_of_many_texts_are_no_more_items_than_texts(nli: Service) -> None:
    results = await ask(nli, ["good"] * 40, labels=[f"label {number}" for number in range(10)])
    assert [len(result["labels"]) for result in results] == [10] * 40


async def test_a_model_without_entailment_says_so(nli: Service) -> None:
    problem = await ask(nli, "good", 404, labels=["a"], model="sentiment")
    assert "model 'sentiment' knows its own labels only" in problem


async def test_a_default_that_cannot_answer_leaves_it_to_the_model_that_can(inferring: Path, start: Start) -> None:
    """Of classification's own route it stays the default."""
    async with start(models=inferring, default_models={"text-classification": "sentiment"}) as service:
        labelled = await service.client.post("/v1/zero-shot", json={"inputs": "good", "labels": LABELS})
        classified = await service.client.post("/v1/classify", json={"inputs": "good"})
    assert labelled.json()["model"]["name"] == "nli"
    assert classified.json()["model"]["name"] == "sentiment"

"""Labels that a request brings, by models of vectors: cosines with each label's sentence, which is read once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.errors import HooperError, InvalidInput
from app.tasks.base import Result
from app.tasks.feature_extraction.task import Embedding, EmbedItem
from app.tasks.registry import installed_tasks
from app.tasks.zero_shot_classification.schemas import ZeroShotRequest
from app.tasks.zero_shot_classification.similarity import SCALE, arrange, items_of, scores_of
from tests.support.requests import Service
from tests.support.tiny_model import publish_tiny, publish_tiny_spec
from tests.unit.app.conftest import Start

LABELS = ["good", "bad", "very good"]
TEMPLATE = "a film is {} ."


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embedders")
    publish_tiny_spec(root, installed_tasks()["feature-extraction"])
    publish_tiny(root, "sentiment")
    return root


@pytest.fixture
async def embedder(embedders: Path, start: Start) -> AsyncIterator[Service]:
    async with start(models=embedders) as service:
        yield service


async def ask(service: Service, inputs: Any, **options: Any) -> list[dict[str, Any]]:
    body = {"inputs": inputs, "labels": LABELS, "hypothesis_template": TEMPLATE, **options}
    response = await service.client.post("/v1/zero-shot", json=body)
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def by_label(result: dict[str, Any]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in result["labels"]}


async def test_scores_are_made_of_the_cosines_that_the_model_gives(embedder: Service) -> None:
    """A classifier that knows its own labels only is loaded, too, and is asked nothing."""
    sentences = [TEMPLATE.replace("{}", label) for label in LABELS]
    body = {"inputs": ["the film was good", "a film is .", *sentences]}
    response = await embedder.client.post("/v1/embed", json=body)
    vectors = np.array([result["embedding"] for result in response.json()["results"]])
    bare, *cosines = (vectors[1:] @ vectors[0]).tolist()
    shares = np.exp(SCALE * np.array(cosines)) / np.exp(SCALE * np.array(cosines)).sum()
    odds = 1 / (1 + np.exp(-SCALE * (np.array(cosines) - bare)))
    (single,) = await ask(embedder, "the film was good")
    assert by_label(single) == pytest.approx(dict(zip(LABELS, shares.tolist(), strict=True)), abs=1e-4)
    assert single["method"] == "similarity"
    assert [entry["label"] for entry in single["labels"]] == [LABELS[place] for place in np.argsort(-np.array(cosines))]
    (several,) = await ask(embedder, "the film was good", multi_label=True)
    assert by_label(several) == pytest.approx(dict(zip(LABELS, odds.tolist(), strict=True)), abs=1e-4)
    assert all(entry["selected"] == (entry["score"] >= 0.5) for entry in several["labels"])
    (alone,) = await ask(embedder, "the film was good", labels=["good"])
    assert by_label(alone) == pytest.approx({"good": odds[0]}, abs=1e-4)


async def test_what_cannot_be_answered_stands_in_its_place(embedder: Service) -> None:
    first, second, third = await ask(embedder, ["good", "", "bad"])
    assert second["error"]["detail"] == "text: must not be empty"
    assert by_label(first).keys() == by_label(third).keys() == set(LABELS)
    assert first["num_tokens"] > len(LABELS) * 6


async def test_a_model_of_inference_is_asked_before_one_of_vectors(embedders: Path, start: Start) -> None:
    publish_tiny(embedders, "nli", labels=("entailment", "contradiction"), max_tokens=48)
    async with start(models=embedders) as service:
        assert (await ask(service, "good"))[0]["method"] == "entailment"
        assert (await ask(service, "good", model="feature-extraction"))[0]["method"] == "similarity"


def test_a_labels_sentence_is_read_once_for_all_texts_and_the_bare_template_once() -> None:
    request = ZeroShotRequest(inputs=["a", {"text": "b", "labels": ["z"]}, "c"], labels=None)  # type: ignore[list-item]
    assert [type(item) for item in items_of(request, {})] == [InvalidInput, EmbedItem, InvalidInput, EmbedItem, EmbedItem]
    request = ZeroShotRequest(inputs=["a", "b"], labels=["x", "y"], hypothesis_template=" {} ")
    assert [item.text for item in items_of(request, {})] == ["a", "b", ".", " x ", " y "]


def test_a_label_that_cannot_be_read_fails_the_texts_that_have_it() -> None:
    request = ZeroShotRequest(
        inputs=[{"text": "a", "labels": ["x"]}, {"text": "b", "labels": ["x", "y"]}],  # type: ignore[list-item]
        hypothesis_template="{}",
    )
    good = Result(Embedding([1.0, 0.0]), 3, False)
    results: list[Result | HooperError] = [good, good, good, good, InvalidInput("is too long", "text")]
    (_, first), (_, second) = arrange(request, results)
    assert not isinstance(first, HooperError)
    assert isinstance(second, InvalidInput)


def test_the_scale_of_a_models_cosines_moves_no_label_over_the_threshold() -> None:
    """Where all cosines lie between 0.7 and 1, a label is no likelier for that."""
    far, near = [0.1, 0.3], [0.8, 1.0]
    assert scores_of(far, 0.2, True) == pytest.approx(scores_of(near, 0.9, True))
    assert scores_of(far, 0.2, False) == pytest.approx(scores_of(near, 0.9, False))
    assert sum(scores_of(far, 0.2, False)) == pytest.approx(1)

"""What a version is asked and answers is counted as it is served, beside what it was like when it was published."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from app.batching.admission import QueueLimit
from app.core.artefact import open_artefact
from app.core.manifest import DriftReference, read_manifest
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment, offline_predict
from app.serving.explaining import explain
from app.serving.loader import LoadOptions, load
from app.tasks.drift import MAX_LABELS, OTHER
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import GOLDEN_TEXTS, publish_tiny

LOAD_OPTIONS = LoadOptions(device="cpu", num_threads=1, max_batch_tokens=64, max_batch_rows=8, queue=QueueLimit(100, 1000))
OPTIONS = ClassificationOptions()
TEXTS = ["good", "very good film", "bad qwertz"]
ITEMS = [ClassificationItem(text) for text in TEXTS]
Open = Callable[[Path], Awaitable[Deployment]]


class Told:
    """What the metrics tell of one version."""

    def __init__(self, metrics: Metrics, name: str = "tiny", version: str = "1") -> None:
        self._registry, self._version = metrics.registry, {"model": name, "version": version}

    def count(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(f"hooper_drift_{name}_total", self._version | labels)

    def reference(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(f"hooper_drift_reference_{name}", self._version | labels)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def open_model(metrics: Metrics) -> AsyncIterator[Open]:
    """Loads a folder and lets the metrics know of it; closes it after the test."""
    loaded: list[Deployment] = []
    metrics.track(lambda: [entry.live_model() for entry in loaded])

    async def opened(folder: Path) -> Deployment:
        loaded.append(await load(open_artefact(folder), LOAD_OPTIONS, metrics))
        return loaded[-1]

    yield opened
    for entry in loaded:
        await entry.aclose(0)


async def test_before_anybody_asks_nothing_is_counted_golden_requests_included(
    open_model: Open, metrics: Metrics, models: Path
) -> None:
    await open_model(models / "tiny" / "1")
    told = Told(metrics)
    assert [told.count(name) for name in ("items", "tokens", "unknown_tokens", "decisions", "confidence")] == [0.0] * 5
    assert told.count("labels", label="good") == 0.0


async def test_what_is_answered_is_counted(open_model: Open, metrics: Metrics, models: Path) -> None:
    deployment = await open_model(models / "tiny" / "1")
    prediction = await deployment.predict([*ITEMS, ClassificationItem(" ")], OPTIONS)
    told = Told(metrics)
    assert (told.count("items"), told.count("tokens"), told.count("unknown_tokens")) == (3, prediction.num_tokens, 1)
    best = [result.answer.labels[0] for result in prediction.results[:3]]  # type: ignore[union-attr]
    assert told.count("decisions") == 3
    assert told.count("confidence") == pytest.approx(sum(entry.score for entry in best))
    for label in ("good", "bad"):
        assert told.count("labels", label=label) == sum(entry.label == label for entry in best)


async def test_many_items_at_once_are_counted_and_explanations_are_not(
    open_model: Open, metrics: Metrics, models: Path
) -> None:
    deployment = await open_model(models / "tiny" / "1")
    await offline_predict(deployment, ITEMS * 20, OPTIONS)
    await explain(deployment, ITEMS[:1])
    assert Told(metrics).count("items") == 60


async def test_served_what_it_was_published_with_a_model_shows_no_drift(
    open_model: Open, metrics: Metrics, models: Path
) -> None:
    deployment = await open_model(models / "tiny" / "1")
    await deployment.predict([ClassificationItem(text) for text in GOLDEN_TEXTS], OPTIONS)
    told = Told(metrics)
    items, tokens = told.count("items"), told.count("tokens")
    assert items == len(GOLDEN_TEXTS)
    assert tokens is not None
    assert tokens / items == pytest.approx(told.reference("tokens"), abs=0.01)
    assert (told.count("unknown_tokens") or 0) / tokens == pytest.approx(told.reference("unknown_share"), abs=1e-6)
    assert (told.count("confidence") or 0) / items == pytest.approx(told.reference("confidence"), abs=1e-3)
    for label, share in read_manifest(models / "tiny" / "1").reference.label_shares.items():
        assert told.reference("label_share", label=label) == share
        assert (told.count("labels", label=label) or 0) / items == pytest.approx(share, abs=1e-4)


async def test_each_version_is_counted_by_itself(open_model: Open, metrics: Metrics, tmp_path: Path) -> None:
    first, second = [await open_model(publish_tiny(tmp_path, version=version)) for version in (1, 2)]
    await first.predict(ITEMS, OPTIONS)
    await second.predict(ITEMS[:1], OPTIONS)
    assert [Told(metrics, version=version).count("items") for version in ("1", "2")] == [3, 1]


async def test_labels_beyond_those_that_are_named_are_counted_together(
    open_model: Open, metrics: Metrics, tmp_path: Path
) -> None:
    labels = [*(f"label-{number}" for number in range(MAX_LABELS)), "last"]  # "good" pushes the last label
    folder = publish_tiny(tmp_path, labels=labels)
    sign_again(folder, reference={})
    deployment = await open_model(folder)
    await deployment.predict([ClassificationItem("good good good")], OPTIONS)
    told = Told(metrics)
    assert told.count("labels", label=OTHER) == 1
    assert told.count("labels", label="last") is None


@pytest.mark.parametrize("leave_out", [False, True], ids=["empty", "left out"])
async def test_a_model_published_before_references_were_measured_loads_and_has_none(
    leave_out: bool, open_model: Open, metrics: Metrics, models: Path
) -> None:
    folder = models / "tiny" / "1"
    sign_again(folder, reference={})
    if leave_out:
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["reference"]
        (folder / "manifest.json").write_text(json.dumps(manifest))
    deployment = await open_model(folder)
    await deployment.predict(ITEMS, OPTIONS)
    assert deployment.manifest.reference == DriftReference()
    assert Told(metrics).count("items") == 3
    assert b"\nhooper_drift_reference_tokens{" not in metrics.render()

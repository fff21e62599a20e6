"""What the service counts. One object per application, so that two in one process do not mix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, disable_created_metrics, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.core.manifest import NO_REFERENCE, DriftReference

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
MAX_REMEMBERED = 1024
"""Of a metric, combinations of labels that are found fast."""
MetricT = TypeVar("MetricT", Counter, Histogram)
ProcessKind = Literal["engine", "front_end"]


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A loaded model as the metrics tell it."""

    model: str
    version: str
    provider: str
    precision: str
    layout: str
    num_waiting_rows: int
    max_batch_tokens: int
    reference: DriftReference = NO_REFERENCE
    role: str = "main"
    share: float = 1.0
    """Of the requests that name no version, those that it answers."""
    cache_rows: tuple[int, int, int] | None = None
    """Of the cache of one that writes: all, those in use, and the bytes of others in which beginnings of texts are kept."""


class Metrics:
    """Prometheus metrics under the names of the HTTP contract. Times in seconds."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the page and no dashboard of ours reads them
        self.registry = CollectorRegistry()
        self._count_requests()
        self._count_batches()
        self._count_written()
        self._count_losses()
        self._count_feedback()
        self._count_drift()

    def _count_requests(self) -> None:
        counter, histogram = self._counter, self._histogram
        self.requests = counter("requests", "Requests answered.", "task", "model", "status")
        self.version_requests = counter(
            "version_requests", "Requests by the version that they came to.", "model", "version", "status"
        )
        self.shadow_compared = counter(
            "shadow_compared", "Items that a version answered, by what its shadow made of them.",
            "model", "version", "candidate", "outcome",
        )  # fmt: skip
        self.request_seconds = histogram("request_seconds", "Request received to answer ready.", SECONDS, "task")
        self.tokenize_seconds = histogram("tokenize_seconds", "Text to rows, per request.", SECONDS)

    def _count_batches(self) -> None:
        histogram = self._histogram
        self.queue_seconds = histogram("queue_seconds", "Rows ready to engine free, per request.", SECONDS)
        self.inference_seconds = histogram("inference_seconds", "One batch in the engine.", SECONDS)
        self.batch_rows = histogram("batch_rows", "Rows in a batch.", ROWS)
        self.batch_tokens = histogram("batch_tokens", "Tokens in a batch, padding left out.", TOKENS)
        self.padding_ratio = histogram("padding_ratio", "Share of the computed tokens that were padding.", RATIOS)

    def _count_written(self) -> None:
        counter, histogram = self._counter, self._histogram
        self.generated_tokens = counter("generated_tokens", "Tokens that were written.", "model")
        self.prompt_tokens = counter(
            "prompt_tokens", "Tokens of texts to continue: read, or reused where another text began alike.", "model", "source"
        )
        self.prefix_cache_evictions = counter(
            "prefix_cache_evictions",
            "Pages of beginnings that were kept and gave way, to others or to texts being written.",
            "model",
        )
        self.first_token_seconds = histogram("first_token_seconds", "Rows ready to the first token written of each.", SECONDS)
        self.between_tokens_seconds = histogram(
            "between_tokens_seconds", "From one token of a row to its next, where they are told as they are written.", SECONDS
        )

    def _count_losses(self) -> None:
        counter = self._counter
        self.truncated = counter("truncated", "Items that were cut.", "model")
        self.engine_failures = counter(
            "engine_failures", "Batches, and halves of them, that the engine did not answer.", "model", "type"
        )
        self.dropped_rows = counter(
            "dropped_rows", "Rows that nobody wanted any more before the engine was free.", "model", "reason"
        )
        self.engines_lost = counter("engines_lost", "Engines that were stuck or dead and were given up.", "model")

    def _count_feedback(self) -> None:
        counter = self._counter
        self.feedback = counter(
            "feedback",
            "Corrections sent: the model was right (confirmed) or wrong (corrected), or it was not kept (refused, failed).",
            "model", "outcome",
        )  # fmt: skip
        self.feedback_file_changes = counter(
            "feedback_file_changes",
            "Times that the file of corrections was gone and made anew (made), or another one was in its place (replaced).",
            "change",
        )

    def _count_drift(self) -> None:
        """Sums and counts: Prometheus makes means and shares of them, over whatever time is asked for."""
        counter, of_version = self._counter, ("model", "version")
        self.drift_items = counter("drift_items", "Items answered.", *of_version)
        self.drift_tokens = counter("drift_tokens", "Tokens of the answered items.", *of_version)
        self.drift_unknown_tokens = counter(
            "drift_unknown_tokens", "Tokens of the answered items that the vocabulary lacks.", *of_version
        )
        self.drift_decisions = counter("drift_decisions", "Items answered with a best score of its usual meaning.", *of_version)
        self.drift_confidence = counter("drift_confidence", "Best scores of these answers, added up.", *of_version)
        self.drift_labels = counter("drift_labels", "These items by their best label.", *of_version, "label")

    def track(self, models: Callable[[], Iterable[LiveModel]], failed: Callable[[], Iterable[str]] = list) -> None:
        """Report these models at every scrape, and the names of those that failed: as it is then, not as it once was."""
        self.registry.register(LiveModels(models, failed))

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return _remembering(Counter(f"hooper_{name}_total", text, labels, registry=self.registry))

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], label: str = "model") -> Histogram:
        return _remembering(Histogram(f"hooper_{name}", text, (label,), registry=self.registry, buckets=buckets))


def _remembering(metric: MetricT) -> MetricT:
    """A metric that finds what it counts under labels that were asked before by one look-up, without making texts of them."""
    vars(metric)["labels"] = lru_cache(MAX_REMEMBERED)(metric.labels)
    return metric


class LiveModels(Collector):
    """Gauges that are read off the loaded models when they are scraped."""

    def __init__(self, models: Callable[[], Iterable[LiveModel]], failed: Callable[[], Iterable[str]] = list) -> None:
        self._models, self._failed = models, failed

    def collect(self) -> Iterator[Metric]:
        models = list(self._models())
        failed = _gauge("model_failed", "1 for each model that could not be loaded.", "model")
        for name in self._failed():
            failed.add_metric([name], 1)
        yield failed
        yield from _engine_metrics(models)
        info = _gauge("model_info", "1 for each loaded version.", "model", "version", "provider", "precision", "layout")
        share = _gauge(
            "traffic_share", "Share of the requests naming no version that come to this one; a shadow's is 0.",
            "model", "version", "role",
        )  # fmt: skip
        for model in models:
            info.add_metric([model.model, model.version, model.provider, model.precision, model.layout], 1)
            share.add_metric([model.model, model.version, model.role], model.share)
        yield info
        yield share
        yield from _reference_metrics(models)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"hooper_{name}", text, labels=labels)


def _engine_metrics(models: Iterable[LiveModel]) -> Iterator[Metric]:
    """By model: of two versions the rows together, and the smaller budget."""
    rows: dict[str, int] = {}
    tokens: dict[str, int] = {}
    for model in models:
        rows[model.model] = rows.get(model.model, 0) + model.num_waiting_rows
        tokens[model.model] = min(tokens.get(model.model, model.max_batch_tokens), model.max_batch_tokens)
    waiting_rows = _gauge("waiting_rows", "Rows waiting for the engine.", "model")
    budget = _gauge(
        "batch_token_budget", "Tokens that a batch may cost now: less than configured while memory is short.", "model"
    )
    for name in rows:
        waiting_rows.add_metric([name], rows[name])
        budget.add_metric([name], tokens[name])
    yield waiting_rows
    yield budget
    yield from _cache_metrics(models)


def _cache_metrics(models: Iterable[LiveModel]) -> Iterator[Metric]:
    """By model, of two versions together, where they write."""
    rows = _gauge("cache_rows", "Rows of the cache, each for a text that is written, or a beam of one.", "model")
    used = _gauge("cache_rows_used", "Rows of the cache in use; while all are, what is to be written waits.", "model")
    prefixes = _gauge(
        "prefix_cache_bytes", "Bytes of rows not in use in which beginnings of texts are kept; they give way at once.", "model"
    )
    by_name: dict[str, list[tuple[int, int, int]]] = {}
    for model in models:
        if model.cache_rows is not None:
            by_name.setdefault(model.model, []).append(model.cache_rows)
    for name, counts in by_name.items():
        for gauge, of_versions in zip((rows, used, prefixes), zip(*counts, strict=True), strict=True):
            gauge.add_metric([name], sum(of_versions))
    yield from (rows, used, prefixes)


def _reference_metrics(models: Iterable[LiveModel]) -> Iterator[Metric]:
    """What the held-out items of each version were like, beside which drift is seen; a version without that is left out."""

    def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return _gauge(f"drift_reference_{name}", f"{text} when the model was published.", "model", "version", *labels)

    tokens, unknown = gauge("tokens", "Mean tokens of an item"), gauge("unknown_share", "Share of unknown tokens")
    confidence = gauge("confidence", "Mean best score")
    labels = gauge("label_share", "Share of the items with this best label", "label")
    for model in models:
        reference, version = model.reference, [model.model, model.version]
        if not reference.num_items:
            continue
        tokens.add_metric(version, reference.tokens_per_item)
        unknown.add_metric(version, reference.unknown_token_share)
        if reference.confidence is not None:
            confidence.add_metric(version, reference.confidence)
        for label, share in reference.label_shares.items():
            labels.add_metric([*version, label], share)
    yield from (tokens, unknown, confidence, labels)


class SharedMetrics(Metrics):
    """Metrics of several processes as one: each counts in files of its own place, and any of them renders the sum.

    Invariant: nothing that was counted is lost or counted twice, whichever process dies: a successor goes on in its file.
    """

    def __init__(self, folder: Path, place: str, kind: ProcessKind, is_successor: bool) -> None:
        """The first in its process, in which every metric is kept in such files from then on.

        Args:
            folder: where the files of all processes lie.
            place: this process's, such as `front-end-1`; two that run at the same time must not share one.
            is_successor: another one had this place before, and has died.
        """
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # prometheus-client takes it from nowhere else
        values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
        super().__init__()
        self._folder = folder
        self._live: LiveModels | None = None
        restarts = self._counter("process_restarts", "Processes of the service that died and were started again.", "process")
        restarts.labels(kind).inc(int(is_successor))

    def track(self, models: Callable[[], Iterable[LiveModel]], failed: Callable[[], Iterable[str]] = list) -> None:
        self._live = LiveModels(models, failed)

    def render(self) -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        if self._live is not None:
            registry.register(self._live)
        return generate_latest(registry)

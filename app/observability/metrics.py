"""What the service counts. One object per application, so that two in one process do not mix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, disable_created_metrics, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.core.manifest import NO_REFERENCE, DriftReference

OF_VERSION = ("model", "version")
OF_LABEL = (*OF_VERSION, "label")


class DriftCounters:
    """Sums and counts: Prometheus makes means and shares of them, over whatever time is asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: tuple[str, ...] = OF_VERSION) -> Counter:
            return Counter(f"hooper_drift_{name}_total", text, labels, registry=registry)

        self.items = counter("items", "Items answered.")
        self.tokens = counter("tokens", "Tokens of the answered items.")
        self.unknown_tokens = counter("unknown_tokens", "Tokens of the answered items that the vocabulary lacks.")
        self.decisions = counter("decisions", "Items answered with a best score of its usual meaning.")
        self.confidence = counter("confidence", "Best scores of these answers, added up.")
        self.labels = counter("labels", "These items by their best label.", OF_LABEL)


def reference_metrics(models: Iterable[tuple[str, str, DriftReference]]) -> Iterator[Metric]:
    """The references of loaded models, given as name, version and reference; a model that has none is left out."""

    def gauge(name: str, text: str, labels: tuple[str, ...] = OF_VERSION) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"hooper_drift_reference_{name}", f"{text} when the model was published.", labels=labels)

    tokens, unknown = gauge("tokens", "Mean tokens of an item"), gauge("unknown_share", "Share of unknown tokens")
    confidence = gauge("confidence", "Mean best score")
    labels = gauge("label_share", "Share of the items with this best label", OF_LABEL)
    for name, version, reference in models:
        if not reference.num_items:
            continue
        tokens.add_metric([name, version], reference.tokens_per_item)
        unknown.add_metric([name, version], reference.unknown_token_share)
        if reference.confidence is not None:
            confidence.add_metric([name, version], reference.confidence)
        for label, share in reference.label_shares.items():
            labels.add_metric([name, version, label], share)
    yield from (tokens, unknown, confidence, labels)


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


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


class Metrics:
    """Prometheus metrics under the names of the HTTP contract. Times in seconds."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the page and no dashboard of ours reads them
        self.registry = CollectorRegistry()
        of_model = ("model",)
        self.requests = Counter(
            "hooper_requests_total", "Requests answered.", ("task", "model", "status"), registry=self.registry
        )
        self.version_requests = Counter(
            "hooper_version_requests_total", "Requests by the version that they came to.", ("model", "version", "status"),
            registry=self.registry,
        )  # fmt: skip
        self.shadow_compared = Counter(
            "hooper_shadow_compared_total", "Items that a version answered, by what its shadow made of them.",
            ("model", "version", "candidate", "outcome"), registry=self.registry,
        )  # fmt: skip
        self.request_seconds = self._seconds("hooper_request_seconds", "Request received to answer ready.", ("task",))
        self.tokenize_seconds = self._seconds("hooper_tokenize_seconds", "Text to rows, per request.", of_model)
        self.queue_seconds = self._seconds("hooper_queue_seconds", "Rows ready to engine free, per request.", of_model)
        self.inference_seconds = self._seconds("hooper_inference_seconds", "One batch in the engine.", of_model)
        self.batch_rows = Histogram("hooper_batch_rows", "Rows in a batch.", of_model, registry=self.registry, buckets=ROWS)
        self.batch_tokens = Histogram(
            "hooper_batch_tokens", "Tokens in a batch, padding left out.", of_model, registry=self.registry, buckets=TOKENS
        )
        self.padding_ratio = Histogram(
            "hooper_padding_ratio", "Share of the computed tokens that were padding.", of_model,
            registry=self.registry, buckets=RATIOS,
        )  # fmt: skip
        self.truncated = Counter("hooper_truncated_total", "Items that were cut.", of_model, registry=self.registry)
        self.engine_failures = Counter(
            "hooper_engine_failures_total", "Batches, and halves of them, that the engine did not answer.", ("model", "type"),
            registry=self.registry,
        )  # fmt: skip
        self.dropped_rows = Counter(
            "hooper_dropped_rows_total", "Rows that nobody wanted any more before the engine was free.", ("model", "reason"),
            registry=self.registry,
        )  # fmt: skip
        self.engines_lost = Counter(
            "hooper_engines_lost_total", "Engines that were stuck or dead and were given up.", of_model, registry=self.registry
        )
        self.feedback = Counter(
            "hooper_feedback_total",
            "Corrections sent: the model was right (confirmed) or wrong (corrected), or it was not kept (refused, failed).",
            ("model", "outcome"), registry=self.registry,
        )  # fmt: skip
        self.feedback_file_changes = Counter(
            "hooper_feedback_file_changes_total",
            "Times that the file of corrections was gone and made anew (made), or another one was in its place (replaced).",
            ("change",), registry=self.registry,
        )  # fmt: skip
        self.drift = DriftCounters(self.registry)

    def track(self, models: Callable[[], Iterable[LiveModel]], failed: Callable[[], Iterable[str]] = list) -> None:
        """Report these models at every scrape, and the names of those that failed: as it is then, not as it once was."""
        self.registry.register(LiveModels(models, failed))

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    def _seconds(self, name: str, text: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=SECONDS)


class LiveModels(Collector):
    def __init__(self, models: Callable[[], Iterable[LiveModel]], failed: Callable[[], Iterable[str]] = list) -> None:
        self._models, self._failed = models, failed

    def collect(self) -> Iterator[Metric]:
        names = ["model", "version", "provider", "precision", "layout"]
        info = GaugeMetricFamily("hooper_model_info", "1 for each loaded version.", labels=names)
        share = GaugeMetricFamily(
            "hooper_traffic_share", "Share of the requests naming no version that come to this one; a shadow's is 0.",
            labels=["model", "version", "role"],
        )  # fmt: skip
        models = list(self._models())
        for one in models:
            info.add_metric([one.model, one.version, one.provider, one.precision, one.layout], 1)
            share.add_metric([one.model, one.version, one.role], one.share)
        failed = GaugeMetricFamily("hooper_model_failed", "1 for each model that could not be loaded.", labels=["model"])
        for name in self._failed():
            failed.add_metric([name], 1)
        yield failed
        yield from _of_engines(models)
        yield info
        yield share
        yield from reference_metrics((one.model, one.version, one.reference) for one in models)


def _of_engines(models: Iterable[LiveModel]) -> Iterator[Metric]:
    """By model: of two versions the rows together, and the smaller budget."""
    rows: dict[str, int] = {}
    tokens: dict[str, int] = {}
    for one in models:
        rows[one.model] = rows.get(one.model, 0) + one.num_waiting_rows
        tokens[one.model] = min(tokens.get(one.model, one.max_batch_tokens), one.max_batch_tokens)
    waiting = GaugeMetricFamily("hooper_waiting_rows", "Rows waiting for the engine.", labels=["model"])
    allowed = GaugeMetricFamily(
        "hooper_batch_token_budget", "Tokens that a batch may cost now: less than configured while memory is short.",
        labels=["model"],
    )  # fmt: skip
    for model in rows:
        waiting.add_metric([model], rows[model])
        allowed.add_metric([model], tokens[model])
    yield waiting
    yield allowed


Kind = Literal["engine", "front_end"]


class SharedMetrics(Metrics):
    """Invariant: nothing that was counted is lost or counted twice, whichever process dies: a successor goes on in its file."""

    def __init__(self, folder: Path, place: str, kind: Kind, is_successor: bool) -> None:
        """The first in its process, in which every metric is kept in such files from then on.

        Args:
            folder: where the files of all processes lie.
            place: this process's, such as `front-end-1`; two that run at the same time must not share one.
            kind: what the process is.
            is_successor: another one had this place before, and has died.
        """
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # prometheus-client asks nobody else
        values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
        super().__init__()
        self._folder = folder
        self._live: LiveModels | None = None
        restarts = Counter(
            "hooper_process_restarts_total", "Processes of the service that died and were started again.", ("process",),
            registry=self.registry,
        )  # fmt: skip
        restarts.labels(kind).inc(int(is_successor))

    def track(self, models: Callable[[], Iterable[LiveModel]], failed: Callable[[], Iterable[str]] = list) -> None:
        self._live = LiveModels(models, failed)

    def render(self) -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        if self._live is not None:
            registry.register(self._live)
        return generate_latest(registry)

"""What is told of drift: sums over what each version was asked and answered, beside what its held-out items were like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import GaugeMetricFamily

from app.core.manifest import DriftReference

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

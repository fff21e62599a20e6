"""Drift of one version: what it is asked and answers, counted as it is served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from app.core.manifest import Manifest
from app.observability.metrics import Metrics
from app.tasks.base import Encoded, Task
from app.tasks.drift import OTHER, named_labels, summed


class Drift:
    """Counts answered items. Safe to call from several threads, as its counters are."""

    def __init__(self, manifest: Manifest, task: Task[Any, Any, Any], unknown_id: int | None, metrics: Metrics) -> None:
        """
        Args:
            task: what encodes its items and reads its answers.
            unknown_id: the token that stands for what the vocabulary lacks; None: it lacks nothing.
        """
        self._task, self._unknown_id = task, unknown_id
        self._version = version = (manifest.name, str(manifest.version))
        self._items, self._tokens = metrics.drift_items.labels(*version), metrics.drift_tokens.labels(*version)
        self._unknown = metrics.drift_unknown_tokens.labels(*version)
        self._decisions = metrics.drift_decisions.labels(*version)
        self._confidence = metrics.drift_confidence.labels(*version)
        self._all_labels = metrics.drift_labels
        # made now, so that a label's first item is an increase and not the beginning of a series
        self._labels = {label: metrics.drift_labels.labels(*version, label) for label in named_labels(manifest)}

    def count(self, answers: Iterable[tuple[Encoded, Any]], options: Any) -> None:
        """Items with their answers, and the options they were asked with."""
        sums = summed(self._task, self._unknown_id, answers, options)
        self._items.inc(sums.num_items)
        self._tokens.inc(sums.num_tokens)
        self._unknown.inc(sums.num_unknown)
        self._decisions.inc(sums.num_decisions)
        self._confidence.inc(sums.confidence)
        for label, count in sums.labels.items():
            counter = self._labels.get(label)
            (counter or self._all_labels.labels(*self._version, OTHER)).inc(count)

"""Text to text offline: whatever is written from a text, by pairs of a source and a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.core.fields import FieldSpec, column_key
from app.tasks.fields import TEXT_COLUMNS
from app.tasks.text2text_generation.spec import SPEC as SERVED
from scripts.tasks.generation.metrics import mean_interval, row_chrf, row_rouge
from scripts.tasks.generation.pairs import SourceTargetColumns
from scripts.tasks.generation.task import GenerationTraining, RowMetrics
from scripts.tasks.spec import TrainingTask
from scripts.training.columns import TableSample
from scripts.training.data import Dataset
from scripts.training.recipe import Recipe

SOURCE = FieldSpec(("source", "input", "inputs", "prompt", "instruction", *TEXT_COLUMNS))
TARGET = FieldSpec(
    ("target", "output", "outputs", "response", "completion", "answer", "targets", "correction", "rewrite", "paraphrase"),
    description="text to be written",
)
TELLING = (("source", "target"), ("input", "output"), ("prompt", "completion"), ("prompt", "response"))
"""Columns that stand together in data for this task alone."""
ANY_LANGUAGE = "mul"


class TextToTextMetrics(NamedTuple):
    """What `Trainer.evaluate` gives: percent."""

    loss: float
    """Mean cross entropy in nats, per token of the targets."""
    exact_match: float
    """Share of texts that are the reference but for blanks at their ends."""
    rougeLsum: float  # noqa: N815  # the metric's own name
    mean_chrf: float
    """chrF of each row, on average: what two models are compared by."""


class TextToTextTraining(GenerationTraining):
    """Satisfies `TrainingTask`."""

    api_module = "text2text_generator"
    metrics_type = TextToTextMetrics
    served = SERVED
    fields: Mapping[str, FieldSpec] = {"text": SOURCE}
    label_field = TARGET
    length_metric = "chrF"
    primary_metric = "mean_chrf"

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        """Two columns of texts that are called so."""
        keys = {column_key(name): name for name in table.names}
        pairs = [(keys[source], keys[target]) for source, target in TELLING if {source, target} <= keys.keys()]
        return 0.85 if any(table[source].is_free_text and table[target].is_free_text for source, target in pairs) else 0.0

    def writer_options(self, config: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
        """None: a prefix is for one of the tasks that have a name, and is part of the text here."""
        return {}, []

    def pair_options(self, recipe: Recipe, columns: SourceTargetColumns, dataset: Dataset) -> dict[str, Any]:
        return {"prefix": recipe.source_prefix} if recipe.source_prefix else {}

    def measure(
        self, texts: Sequence[str], references: Sequence[str], task_options: Mapping[str, Any], with_intervals: bool
    ) -> RowMetrics:
        rows = {
            "exact_match": np.array([100.0 * (a.strip() == b.strip()) for a, b in zip(texts, references, strict=True)]),
            "rougeLsum": row_rouge(texts, references, ANY_LANGUAGE)["rougeLsum"],
            "mean_chrf": row_chrf(texts, references),
        }
        intervals = {name: mean_interval(scores) for name, scores in rows.items()} if with_intervals else {}
        return RowMetrics({name: float(scores.mean()) for name, scores in rows.items()}, intervals)

    def text_scores(self, texts: Sequence[str], references: Sequence[str], task_options: Mapping[str, Any]) -> np.ndarray:
        return row_chrf(texts, references)

    def metric_names(self, task_options: Mapping[str, Any]) -> Mapping[str, str]:
        return {"mean_chrf": "mean chrF"}

    def hub_metrics(self) -> list[str]:
        return ["exact_match", "rouge", "chrf"]


SPEC: TrainingTask = TextToTextTraining()

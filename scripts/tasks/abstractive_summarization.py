"""Abstractive summarization offline: documents and the summaries that people wrote, ROUGE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.core.fields import FieldSpec
from app.tasks.abstractive_summarization.spec import SPEC as SERVED
from app.tasks.fields import SUMMARY_COLUMNS
from app.tasks.sentences import LANGUAGE, sentences
from scripts.tasks.generation.metrics import mean_interval, row_rouge
from scripts.tasks.generation.pairs import SourceTargetColumns
from scripts.tasks.generation.task import GenerationTraining, RowMetrics, specific_params, written
from scripts.tasks.spec import TrainingTask
from scripts.training.data import Dataset, Example
from scripts.training.recipe import Recipe

NEWLINE = "<n>"
"""What some Pegasus models write for the end of a line."""
SUMMARY = FieldSpec(SUMMARY_COLUMNS, description="summary")
SAMPLE_TEXTS = (
    ("The city council voted on Tuesday to close the old market hall. Engineers had warned for years that its roof could"
    " fall. About forty traders will move to a tent on the station square by March. The council expects the repair to cost four"
    " million euros and to take two years."),
    "One sentence stands alone.",
)  # fmt: skip


class WrittenSummaryMetrics(NamedTuple):
    """What `Trainer.evaluate` gives; ROUGE is F1 in percent, in English with stemming."""

    loss: float
    """Mean cross entropy in nats, per token of the summaries."""
    rouge1: float
    rouge2: float
    rougeLsum: float  # noqa: N815  # the metric's own name


class AbstractiveTraining(GenerationTraining):
    """Satisfies `TrainingTask`."""

    api_module = "abstractive_summarizer"
    metrics_type = WrittenSummaryMetrics
    served = SERVED
    label_field = SUMMARY
    has_language = True
    length_metric = "ROUGE-1"
    primary_metric = "rouge1"
    golden_texts: Sequence[str] = SAMPLE_TEXTS

    def head_sign(self, config: Any, pipeline_tag: str) -> str:
        if pipeline_tag == "summarization":
            return "its card says that it summarizes"
        if config.model_type == "pegasus":
            return "Pegasus models summarize"
        tasks = specific_params(config)
        is_only_one = bool(tasks) and all(name.startswith("summarization") for name in tasks)
        return "its task_specific_params name no other task" if is_only_one else ""

    def is_unlikely_head(self, config: Any) -> bool:
        return True

    def writer_options(self, config: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
        """The prefix of the pipeline of transformers, and the sign for the end of a line."""
        prefix = specific_params(config).get("summarization", {}).get("prefix", "")
        options: dict[str, Any] = {"prefix": prefix} if prefix.strip() else {}
        notes = [f"each document is read behind {prefix!r}, as its task_specific_params say"] if options else []
        if NEWLINE in tokenizer.get_vocab():
            options["newline"] = NEWLINE
        return options, notes

    def pair_options(self, recipe: Recipe, columns: SourceTargetColumns, dataset: Dataset) -> dict[str, Any]:
        prefix = {"prefix": recipe.source_prefix} if recipe.source_prefix else {}
        return {"language": recipe.language, **prefix}

    def measure(
        self, texts: Sequence[str], references: Sequence[str], task_options: Mapping[str, Any], with_intervals: bool
    ) -> RowMetrics:
        rows = row_rouge(texts, references, task_options.get("language", LANGUAGE))
        intervals = {name: mean_interval(scores) for name, scores in rows.items()} if with_intervals else {}
        return RowMetrics({name: float(scores.mean()) for name, scores in rows.items()}, intervals)

    def text_scores(self, texts: Sequence[str], references: Sequence[str], task_options: Mapping[str, Any]) -> np.ndarray:
        return row_rouge(texts, references, task_options.get("language", LANGUAGE))["rouge1"]

    def baselines(
        self, train: Sequence[Example], examples: Sequence[Example], task_options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """The first sentence, and the first three."""
        language = task_options.get("language", LANGUAGE)
        for name, count in (("first sentence", 1), ("lead-3", 3)):
            yield name, [written(_lead(example.item.text, count, language)) for example in examples]

    def hub_metrics(self) -> list[str]:
        return ["rouge"]


SPEC: TrainingTask = AbstractiveTraining()


def _lead(text: str, count: int, language: str) -> str:
    spans = sentences(text, language)[:count]
    return " ".join(text[start:end] for start, end in spans)

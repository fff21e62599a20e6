"""Abstractive summarization offline: models that were trained to write summaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.core.fields import FieldSpec
from app.tasks.abstractive_summarization.spec import SPEC as SERVED
from scripts.tasks.spec import TrainingTask
from scripts.tasks.writing import WritingTask, specific_params

NEWLINE = "<n>"
"""What some Pegasus models write for the end of a line."""


class SummaryPublishing(WritingTask):
    """Satisfies `TrainingTask`."""

    name = "abstractive-summarization"
    fields: Mapping[str, FieldSpec] = SERVED.fields
    served = SERVED

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


SPEC: TrainingTask = SummaryPublishing()

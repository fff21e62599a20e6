"""Text-to-text generation offline: any encoder-decoder model that says nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.core.fields import FieldSpec
from app.tasks.text2text_generation.spec import SPEC as SERVED
from scripts.tasks.spec import TrainingTask
from scripts.tasks.writing import WritingTask


class Text2TextPublishing(WritingTask):
    """Satisfies `TrainingTask`."""

    name = "text2text-generation"
    fields: Mapping[str, FieldSpec] = SERVED.fields
    served = SERVED

    def writer_options(self, config: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
        """None: a prefix is for one of the tasks that have a name, and is part of the text here."""
        return {}, []


SPEC: TrainingTask = Text2TextPublishing()

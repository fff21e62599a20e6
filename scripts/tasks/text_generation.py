"""Text generation offline: models that continue a text are published as they are; none is trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec
from app.data import Record
from app.tasks.text_generation.spec import SPEC as SERVED
from scripts.export.chat_template import chat_options
from scripts.tasks.spec import PublishedTask, ReportInput, TrainingTask
from scripts.tasks.writing import WritingTask
from scripts.training.data import Example, Parse
from scripts.training.recipe import Recipe


class TextGenerationPublishing(WritingTask, PublishedTask):
    """Satisfies `TrainingTask`. No example has a target: how a text goes on is not known."""

    name = SERVED.name
    served = SERVED
    api_module = ""
    auto_class = "AutoModelForCausalLM"
    heads: tuple[str, ...] = ("ForCausalLM", "LMHeadModel")
    optional_weights: tuple[str, ...] = ()
    fields: Mapping[str, FieldSpec] = SERVED.fields
    label_field = FieldSpec(())
    length_metric = "accuracy"

    def head_refusal(self, config: Any, is_named: bool) -> str:
        from scripts.export.seq2seq.causal_families import (
            causal_refusal,  # here: it needs torch, which judging a published model does without
        )

        return causal_refusal(config)

    def writer_options(self, config: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
        options = chat_options(tokenizer)
        return options, ["its chat template is published with it: it holds conversations"] if options else []

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        raise self._unmeasured()

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        raise self._unmeasured()

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        raise self._unmeasured()

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        raise self._unmeasured()

    def _unmeasured(self) -> InvalidSettings:
        return InvalidSettings("how well a text is continued is not measured: leave the column of labels out")

    def hub_metrics(self) -> list[str]:
        return []

    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        return [answer.text]

    def label_texts(self, example: Example) -> list[str]:
        return []


SPEC: TrainingTask = TextGenerationPublishing()

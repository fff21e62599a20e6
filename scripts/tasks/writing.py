"""What tasks that write share offline of a checkpoint; how they are trained stands in `generation`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from app.core.manifest import Decoder
from app.tasks.base import Task
from app.tasks.spec import TaskSpec
from app.tasks.tokenizer import Tokenizer
from scripts.tasks.spec import Axis, TrainingTask
from scripts.training.recipe import Recipe

GOLDEN_TEXTS = (
    "The old library burned down in 1897.",
    "A new library opened in 1903, and a museum was added in 1911.",
    "Where can I find the opening hours?",
    "Please send the invoice to the address below before Friday.",
)


class WritingTask(TrainingTask):
    """What is said of models that write, whoever trained them."""

    output_axis: Axis = "token"
    auto_class = "AutoModelForSeq2SeqLM"
    heads: tuple[str, ...] = ("ForConditionalGeneration", "MTModel", "EncoderDecoderModel")
    optional_weights: tuple[str, ...] = ("final_logits_bias",)
    served: TaskSpec
    """Its serving half."""
    has_encoder = True
    """Whether one reads the text; without, the decoder goes on from it."""

    @abstractmethod
    def writer_options(self, config: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
        """Task options of a checkpoint, and notes on them.

        Args:
            config: of transformers.
            tokenizer: transformers' own.
        """

    def head_refusal(self, config: Any, is_named: bool) -> str:
        from scripts.export.seq2seq.families import (
            refusal,  # here: it needs torch, which judging a published model does without
        )

        return refusal(config)

    def serving_task(
        self,
        tokenizer: Tokenizer,
        task_options: Mapping[str, Any],
        decoder: Decoder | None = None,
        target: Tokenizer | None = None,
    ) -> Task[Any, Any, Any]:
        """
        Args:
            tokenizer, task_options: as for any task.
            decoder, target: of the manifest, which a task that writes needs.
        """
        return self.served.build(tokenizer, task_options, decoder, target)

    def serving_options(self) -> Any:
        return self.served.options()

    def item(self, fields: Mapping[str, Any]) -> Any:
        return self.served.item(**fields)

    def golden_items(self, recipe: Recipe) -> list[dict[str, Any]]:
        return [{"text": text} for text in recipe.golden or GOLDEN_TEXTS]

    def sample_items(self, texts: Sequence[str], sentences: Sequence[str]) -> list[dict[str, Any]]:
        return [{"text": text} for text in texts]


def specific_params(config: Any) -> dict[str, dict[str, Any]]:
    """What a checkpoint says of the tasks of transformers' pipelines that it is for."""
    return dict(getattr(config, "task_specific_params", None) or {})

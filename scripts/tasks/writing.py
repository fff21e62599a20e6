"""What tasks that write share offline of a checkpoint; how they are trained stands in `generation`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from scripts.tasks.spec import TrainingTask

GOLDEN_TEXTS = (
    "The old library burned down in 1897.",
    "A new library opened in 1903, and a museum was added in 1911.",
    "Where can I find the opening hours?",
    "Please send the invoice to the address below before Friday.",
)


class WritingTask(TrainingTask):
    """What is said of models that write, whoever trained them."""

    auto_class = "AutoModelForSeq2SeqLM"
    heads: tuple[str, ...] = ("ForConditionalGeneration", "MTModel", "EncoderDecoderModel")
    optional_weights: tuple[str, ...] = ("final_logits_bias",)
    golden_texts: Sequence[str] = GOLDEN_TEXTS
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


def specific_params(config: Any) -> dict[str, dict[str, Any]]:
    """What a checkpoint says of the tasks of transformers' pipelines that it is for."""
    return dict(getattr(config, "task_specific_params", None) or {})

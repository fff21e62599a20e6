"""Fill-mask offline: any masked language model is published as it is; none is trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec
from app.core.types import RowOutput
from app.data import Record
from app.tasks.base import Encoded
from app.tasks.fill_mask.spec import SPEC as SERVED
from app.tasks.fill_mask.task import MASKS, best_ids
from app.tasks.tokenizer import Tokenizer
from scripts.tasks.spec import Prepared, ReportInput, TrainingRow, TrainingTask
from scripts.training.data import Example, Parse
from scripts.training.recipe import Recipe

MASK = MASKS[0]
"""What stands for any model's mask in built-in texts."""
SAMPLE_TEXTS = (
    f"Paris is the {MASK} of France.",
    f"The library {MASK} in 1903, and a museum was added.",
    f"She {MASK} twice in the last ten minutes of the {MASK}.",
    f"Nobody {MASK}.",
    f"Zoë Müller moved from 東京 to {MASK} Paulo.",
)


class FillMaskPublishing(TrainingTask):
    """Satisfies `TrainingTask`. No example has a target: what stood at a mask is not known."""

    served = SERVED
    api_module = ""
    metrics_type: type[Any] = type(None)
    auto_class = "AutoModelForMaskedLM"
    heads: tuple[str, ...] = ("ForMaskedLM",)
    label_field = FieldSpec(())
    length_metric = "accuracy"

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        raise self._untrained()

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        raise self._untrained()

    def _untrained(self) -> InvalidSettings:
        return InvalidSettings(f"a model for {self.name} cannot be trained here; publish one: hooper models add PATH_OR_HUB_ID")

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        raise self._unmeasured()

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        raise self._unmeasured()

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        raise self._unmeasured()

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        raise self._unmeasured()

    def _unmeasured(self) -> InvalidSettings:
        return InvalidSettings("how well a model fills masks is not measured: leave the column of labels out")

    def golden_items(self, recipe: Recipe) -> list[dict[str, Any]]:
        return [{"text": text, "mask": MASK} for text in SAMPLE_TEXTS]

    def sample_items(self, texts: Sequence[str], sentences: Sequence[str]) -> list[dict[str, Any]]:
        """The texts with a mask in the place of their middle word, and long ones with a second one near their end."""
        return [{"text": _masked(text), "mask": MASK} for text in texts]

    def hub_metrics(self) -> list[str]:
        return []

    def is_tie(self, task: Any, item: Any, encoded: Encoded, outputs: Sequence[RowOutput], other: Any, reach: float) -> bool:
        """Whether at each mask that is filled otherwise the other token's logit is within reach of the best."""
        logits = [mask for output in outputs for mask in output["logits"]]
        own, others = best_ids(task.decode(encoded, outputs, self.serving_options())), best_ids(other)
        return all(mask[best] - mask[token] < reach for mask, best, token in zip(logits, own, others, strict=True))

    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        return [mask.fills[0].token for mask in answer.masks]

    def label_texts(self, example: Example) -> list[str]:
        return []


SPEC: TrainingTask = FillMaskPublishing()


def _masked(text: str) -> str:
    words = text.split()
    for place in {len(words) // 2, *([len(words) - 2] if len(words) > 20 else [])}:
        words[place] = MASK
    return " ".join(words)

"""Text regression: a number for each text or pair of texts, answered as the score of the model's one label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from app.core.types import Array, RowOutput
from app.tasks.base import Encoded
from app.tasks.spec import OutputSpec
from app.tasks.text_classification.protocols import native_items
from app.tasks.text_classification.spec import SPEC as CLASSIFICATION
from app.tasks.text_classification.task import Classification, ClassificationOptions, TextClassification
from app.tasks.tokenizer import Tokenizer

NAME = "text-regression"
NEAR = 0.1
"""In standard deviations of the training data: numbers so near to each other are the same decision."""


class TextRegression(TextClassification):
    """Satisfies `Task`. Reads an output `logits` of axis `row`: (1,)."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        labels: Annotated[Sequence[str], Field(min_length=1, max_length=1)],
        window_overlap: Annotated[int, Field(ge=0)] = 64,
        scale: float = 1.0,
        offset: float = 0.0,
        value_range: Annotated[Sequence[float], Field(min_length=2, max_length=2)] | None = None,
    ) -> None:
        """
        Args:
            tokenizer: with the longest input.
            labels: what the number is called.
            window_overlap: tokens that neighbouring windows of a long text share.
            scale: what the output is multiplied by, since models learn numbers of deviation 1,
            offset: and what is then added to it, since those have the mean 0.
            value_range: the lowest and the highest number of the training data, for whoever shows an answer; it limits none.
        """
        super().__init__(tokenizer, labels, window_overlap=window_overlap)
        self._default_activation = "none"
        self._scale, self._offset = scale, offset

    def _scaled(self, logits: Array) -> Array:
        return logits * self._scale + self._offset

    def decision(self, answer: Classification, options: ClassificationOptions) -> None:
        """A number decides nothing."""
        return

    def same_decision(self, answer: Classification, other: Classification, options: ClassificationOptions) -> bool:
        """Whether the numbers are near to each other."""
        return abs(answer.labels[0].score - other.labels[0].score) <= NEAR * self._scale

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        return super().golden_difference(encoded, outputs, expected, tolerance * self._scale)

    def _evidence(self, logits: Array, index: int) -> float:
        return float(self._scaled(logits)[index])

    def _to_score(self, evidence: float) -> float:
        return evidence


SPEC = replace(
    CLASSIFICATION,
    name=NAME,
    title="Text regression",
    task=TextRegression,
    routes=CLASSIFICATION.routes[:1],
    native=replace(native_items(NAME), examples=()),
    output=OutputSpec(num_features=1),
    playground=Path(__file__).with_name("text_regression.js"),
    correction=None,  # which words are wrong about a number is no label to learn from
    training="scripts.tasks.text_regression:SPEC",
)

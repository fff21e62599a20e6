"""Texts to rows of tokens, and what a classifier of two labels says of them to one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from app.core.errors import HooperError, TooLarge
from app.core.types import Row, RowOutput, Truncation
from app.tasks.base import Decision, Encoded, refuse_text
from app.tasks.tokenizer import Tokenizer, Window

OUTPUT = "logits"


@dataclass(frozen=True, slots=True)
class PolarityItem:
    text: str

    def __len__(self) -> int:
        """Characters: what tokenizing costs."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class PolarityOptions:
    truncation: Truncation = "window"


@dataclass(frozen=True, slots=True)
class Polarity:
    """The probability of the second label less that of the first."""

    polarity: float


class TextPolarity:
    """Satisfies `Task`. Reads an output `logits` of axis `row`: (2,)."""

    def __init__(self, tokenizer: Tokenizer, temperature: Annotated[float, Field(ge=1e-6)] = 1.0) -> None:
        """
        Args:
            tokenizer: with the longest input.
            temperature: what logits are divided by before they become probabilities.
        """
        self._max_tokens, self._temperature = tokenizer.max_tokens, temperature
        self._tokenizer, self._windowed = tokenizer, tokenizer.with_windows(tokenizer.max_tokens, tokenizer.max_tokens // 4)

    def encode(self, items: Sequence[PolarityItem], options: PolarityOptions) -> list[Encoded | HooperError]:
        """One row per text, or one per window with `truncation="window"`."""
        errors = [refuse_text(item.text, "text") for item in items]
        texts = [item.text for item, error in zip(items, errors, strict=True) if error is None]
        tokenizer = self._windowed if options.truncation == "window" else self._tokenizer
        windows = iter(tokenizer.windows(texts) if texts else [])
        return [error or self._encoded(next(windows), options.truncation) for error in errors]

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: PolarityOptions) -> Polarity:
        """Of several windows the mean, by the tokens that each one read."""
        values = [float(np.tanh(np.diff(output[OUTPUT])[0] / self._temperature / 2)) for output in outputs]
        return Polarity(float(np.average(values, weights=[row.num_tokens for row in encoded.rows])))

    def decision(self, answer: Polarity, options: PolarityOptions) -> Decision | None:
        """What drift is watched by: the side, and how sure the model is of it."""
        return Decision("positive" if answer.polarity > 0 else "negative", (1 + abs(answer.polarity)) / 2)

    def same_decision(self, answer: Polarity, other: Polarity, options: PolarityOptions) -> bool:
        return (answer.polarity > 0) == (other.polarity > 0)

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        """The number ranges over 2, so it may differ by twice as much as a probability."""
        now, was = self.decode(encoded, outputs, PolarityOptions()).polarity, expected["polarity"]
        return "" if abs(now - was) <= 2 * tolerance else f"the polarity is {now:.4f}, was {was:.4f}"

    def _encoded(self, windows: Sequence[Window], truncation: Truncation) -> Encoded | HooperError:
        is_cut = len(windows) > 1
        if is_cut and truncation == "error":
            reason = f"the text has more than {self._max_tokens} tokens, the longest this model reads"
            return TooLarge(reason, ("truncate", "window"))
        read = windows if truncation == "window" else windows[:1]
        rows = [Row(window.input_ids, window.token_type_ids) for window in read]
        return Encoded(rows, sum(row.num_tokens for row in rows), is_cut and truncation == "truncate")

"""Text to text: whatever an encoder-decoder model was trained to write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.core.errors import HooperError, TooLarge
from app.tasks.base import Encoded, refuse_text
from app.tasks.generation import GenerationOptions, SourceText
from app.tasks.text_generator import PrefixedTask, TextGenerator, golden


@dataclass(frozen=True, slots=True)
class GenerateOptions(GenerationOptions):
    truncation: Literal["error", "truncate"] = "error"


class Text2TextGeneration(PrefixedTask):
    """Satisfies `Task` and `Generative`: one row for each text."""

    def __init__(self, generator: TextGenerator, prefix: str = "") -> None:
        """
        Args:
            prefix: what stands before each text where the model was trained so.
        """
        super().__init__(generator, prefix)

    def encode(self, items: Sequence[SourceText], options: GenerateOptions) -> list[Encoded | HooperError]:
        return [refuse_text(item.text, "text") or self._item(item.text, options) for item in items]

    def golden_options(self) -> GenerateOptions:
        return golden(GenerateOptions)

    def _item(self, text: str, options: GenerateOptions) -> Encoded | HooperError:
        (token_ids,) = self.token_ids([text])
        first, *others = self.rows(token_ids)
        if others and options.truncation == "error":
            limit = self.max_source_tokens
            return TooLarge(f"the text has {len(token_ids)} tokens; the model reads at most {limit}", ("truncate",))
        return self.encoded([first], ("", ""), bool(others), options)

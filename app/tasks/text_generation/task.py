"""Text generation: a text is continued by a model that has no encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.errors import HooperError, InvalidArtefact, TooLarge
from app.tasks.base import Encoded, refuse_text
from app.tasks.generation import GenerativeTask, SourceText, TextGenerator, golden
from app.tasks.text2text_generation.task import GenerateOptions


@dataclass(frozen=True, slots=True)
class ContinueOptions(GenerateOptions):
    """`truncation` cuts the beginning of a text: its end is what is continued."""

    return_full_text: bool = False
    """Whether the answer begins with the text that was sent."""


class TextGeneration(GenerativeTask):
    """Satisfies `Task` and `Generative`: one row for each text, with the special tokens that the tokenizer puts around it."""

    def __init__(self, generator: TextGenerator) -> None:
        """
        Args:
            generator: of the model.

        Raises:
            InvalidArtefact: the model reads with an encoder.
        """
        super().__init__(generator)
        if generator.decoder.has_encoder:
            raise InvalidArtefact("decoder.has_encoder: a model that continues a text has none")

    def encode(self, items: Sequence[SourceText], options: ContinueOptions) -> list[Encoded | HooperError]:
        refusals = [refuse_text(item.text, "text") for item in items]
        texts = [item.text if refusal is None else "" for item, refusal in zip(items, refusals, strict=True)]
        tokens = self.pieces.encode(texts)
        return [
            refusal or self._item(text, of_text.ids, options)
            for text, of_text, refusal in zip(texts, tokens, refusals, strict=True)
        ]

    def golden_options(self) -> ContinueOptions:
        return golden(ContinueOptions)

    def _item(self, text: str, token_ids: Sequence[int], options: ContinueOptions) -> Encoded | HooperError:
        num_specials = self.pieces.single.num_special_tokens
        num_tokens, max_length = len(token_ids) + num_specials, self.generator.decoder.max_length
        limit = max(num_specials + 1, max_length - (options.max_new_tokens or 1))  # more new ones are refused by their name
        if num_tokens > limit and options.truncation == "error":
            new = f"{options.max_new_tokens} new ones" if options.max_new_tokens else "one more"
            reason = f"the text has {num_tokens} tokens; with {new} they are more than the {max_length} that the model reads"
            return TooLarge(f"{reason} and writes", ("truncate",))
        kept = token_ids[max(0, num_tokens - limit) :]
        before = text if options.return_full_text else ""
        return self.encoded([self.pieces.single.row(kept)], (before, ""), len(kept) < len(token_ids), options)

"""Text generation: a text is continued by a model that has no encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.errors import HooperError, InvalidArtefact, InvalidInput, TooManyTokens
from app.core.types import RowOutput
from app.tasks.base import Encoded, refuse_text
from app.tasks.chat_template import ChatTemplate
from app.tasks.generation import SourceText, TokenScore
from app.tasks.text2text_generation.task import GenerateOptions
from app.tasks.text_generator import GenerativeTask, TextGenerator, golden
from app.tasks.tokenizer import Template


@dataclass(frozen=True, slots=True)
class ContinueOptions(GenerateOptions):
    """`truncation` cuts the beginning of a text: its end is what is continued."""

    return_full_text: bool = False
    """Whether the answer begins with the text that was sent."""


NOTHING_AROUND = Template([[], []], [0])
"""Of a text that holds its special tokens."""


@dataclass(frozen=True, slots=True)
class Prompt(SourceText):
    """A text to continue in a form of its own."""

    token_ids: tuple[int, ...] | None = None
    """In place of the text: read as they are."""
    has_special_tokens: bool = False
    """Whether the text holds all of them, as a rendered conversation does, so that none are put around it."""

    def __len__(self) -> int:
        return len(self.text) if self.token_ids is None else len(self.token_ids)


class TextGeneration(GenerativeTask):
    """Satisfies `Task` and `Generative`: one row for each text, with the special tokens that the tokenizer puts around it."""

    def __init__(
        self,
        generator: TextGenerator,
        chat_template: dict[str, str] | None = None,
        chat_tokens: dict[str, str] | None = None,
    ) -> None:
        """
        Args:
            chat_template: the templates of its checkpoint by name, see `ChatTemplate`; None: it holds no conversations.
            chat_tokens: special tokens by the names that templates have for them.

        Raises:
            InvalidArtefact: the model reads with an encoder, or its template can render nothing.
        """
        super().__init__(generator)
        self.chat_template = None if chat_template is None else ChatTemplate(chat_template, chat_tokens or {})
        if self.chat_template is not None:
            self.chat_template.check()
        if generator.decoder.has_encoder:
            raise InvalidArtefact("decoder.has_encoder: a model that continues a text has none")

    def encode(self, items: Sequence[SourceText], options: ContinueOptions) -> list[Encoded | HooperError]:
        refusals = [self._refusal(item) for item in items]
        texts = [item.text if refusal is None else "" for item, refusal in zip(items, refusals, strict=True)]
        tokens = self.pieces.encode(texts)
        return [
            refusal or self._item(item, of_text.ids, options)
            for item, of_text, refusal in zip(items, tokens, refusals, strict=True)
        ]

    def _refusal(self, item: SourceText) -> InvalidInput | None:
        if not isinstance(item, Prompt) or item.token_ids is None:
            return refuse_text(item.text, "text")
        unknown = next((number for number in item.token_ids if number >= self.generator.decoder.vocab_size), None)
        return None if unknown is None else InvalidInput(f"the model has no token {unknown}", "text")

    def scores(self, steps: Sequence[RowOutput]) -> list[TokenScore]:
        """How likely the tokens of these steps were, where that was asked for."""
        return [score for step in steps for score in self.generator.scores(step) or ()]

    def golden_options(self) -> ContinueOptions:
        return golden(ContinueOptions)

    def _item(self, item: SourceText, token_ids: Sequence[int], options: ContinueOptions) -> Encoded | HooperError:
        template = self.pieces.single
        if isinstance(item, Prompt) and (item.has_special_tokens or item.token_ids is not None):
            token_ids, template = item.token_ids or token_ids, NOTHING_AROUND
        num_specials = template.num_special_tokens
        num_tokens, max_length = len(token_ids) + num_specials, self.generator.decoder.max_length
        limit = max(num_specials + 1, max_length - (options.max_new_tokens or 1))  # more new ones are refused by their name
        if num_tokens > limit and options.truncation == "error":
            new = f"{options.max_new_tokens} new ones are" if options.max_new_tokens else "one more is"
            limit_in_words = f"this model's maximum context length is {max_length} tokens"  # by which clients know it
            reason = f"{limit_in_words}; the text has {num_tokens} tokens, and {new} to be written"
            return TooManyTokens(reason, () if isinstance(item, Prompt) else ("truncate",))
        if not num_tokens:
            return InvalidInput("must not be empty: the model reads no token of it", "text")
        kept = token_ids[max(0, num_tokens - limit) :]
        before = item.text if options.return_full_text else ""
        return self.encoded([template.row(kept)], (before, ""), len(kept) < len(token_ids), options)

"""Summaries that are written: of a long document piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from app.core.errors import HooperError, TooLarge
from app.core.types import Truncation
from app.tasks.base import Encoded, refuse_text
from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.generation import GenerationOptions
from app.tasks.sentences import LANGUAGE, LANGUAGE_CODE, sentences
from app.tasks.text_generator import PrefixedTask, TextGenerator, golden

SEPARATOR = " "
"""Between the summaries of a long document's pieces."""


@dataclass(frozen=True, slots=True)
class WrittenSummaryOptions(GenerationOptions):
    truncation: Truncation = "window"
    language: str | None = None
    """Of the documents, as a code: it decides where pieces of a long one may end. None: the model's own."""


class AbstractiveSummarization(PrefixedTask):
    """Satisfies `Task` and `Generative`: one row for each piece of whole sentences that the model reads at once."""

    def __init__(
        self,
        generator: TextGenerator,
        prefix: str = "",
        language: Annotated[str, Field(pattern=LANGUAGE_CODE)] = LANGUAGE,
        newline: str = "",
    ) -> None:
        """
        Args:
            prefix: what stands before each piece where the model was trained so, as T5's `summarize: `.
            newline: what it writes for the end of a line, as `<n>` of some Pegasus checkpoints; empty: nothing of its own.
        """
        super().__init__(generator, prefix, newline)
        self._language = language

    def encode(self, items: Sequence[SummaryItem], options: WrittenSummaryOptions) -> list[Encoded | HooperError]:
        return [refuse_text(item.text, "text") or self._item(item, options) for item in items]

    def golden_options(self) -> WrittenSummaryOptions:
        return golden(WrittenSummaryOptions)

    def _item(self, item: SummaryItem, options: WrittenSummaryOptions) -> Encoded | HooperError:
        (token_ids,) = self.token_ids([item.text])
        if len(token_ids) > self.max_source_tokens and options.truncation == "error":
            return TooLarge(
                f"the text has {len(token_ids)} tokens; the model reads at most {self.max_source_tokens} at once",
                ("window", "truncate"),
            )
        if len(token_ids) <= self.max_source_tokens or options.truncation == "truncate":
            first, *others = self.rows(token_ids)
            return self.encoded([first], ("", ""), bool(others), options)
        windows = self._windows(item.text, item.language or options.language or self._language)
        rows = [row for piece in self.token_ids(windows) for row in self.rows(piece)]
        return self.encoded(rows, ("", *[SEPARATOR] * (len(rows) - 1), ""), False, options)

    def _windows(self, text: str, language: str) -> list[str]:
        """Runs of whole sentences, each as long as the model reads, as far as can be told from the sentences' own lengths."""
        spans = sentences(text, language)
        lengths = [len(token_ids) for token_ids in self.token_ids([text[start:end] for start, end in spans])]
        windows: list[tuple[int, int]] = []
        num_tokens = 0
        for (start, end), length in zip(spans, lengths, strict=True):
            length -= self.num_prefix_tokens
            if windows and self.num_prefix_tokens + num_tokens + length <= self.max_source_tokens:
                windows[-1], num_tokens = (windows[-1][0], end), num_tokens + length
            else:
                windows.append((start, end))
                num_tokens = length
        return [text[start:end] for start, end in windows]

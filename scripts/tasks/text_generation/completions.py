"""The tokens that a model has to write behind a prompt: as it would read prompt and completion together, and an end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from app.core.types import Row
from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_generation.conversations import AnswerFrame, Conversation, ConversationReader
from scripts.training.data import Example


class CompletionReader:
    """Turns prompts and completions into rows to train on."""

    def __init__(self, task: ConversationReader, max_new_tokens: int) -> None:
        """
        Args:
            task: the production task, which reads the prompts.
            max_new_tokens: of a completion; what is longer is cut, and does not end.
        """
        self._task, self._pieces, self._decoder = task, task.pieces, task.generator.decoder
        self._limit = max_new_tokens
        self._chat = task.chat_template
        self._frame: AnswerFrame | None = None

    def rows(self, examples: Sequence[Example], encoded: Sequence[Any]) -> Iterator[TrainingRow]:
        """Those that prompt and completion fit into the model together.

        Args:
            examples: prompts, and their completions as targets.
            encoded: the prompts, as the production task reads them; cut ones are left out.
        """
        texts = [self._framed(example) for example in examples]
        read = [self._task.read(example.item).text for example in examples]
        together = self._pieces.encode([prompt + text for prompt, text in zip(read, texts, strict=True)])
        alone, prompts = self._pieces.encode(texts), self._pieces.encode(read)
        for entry, both, own, prompt in zip(encoded, together, alone, prompts, strict=True):
            # where a token of both would begin before the border, the service would not have read it
            follows = list(both.ids[: len(prompt.ids)]) == list(prompt.ids)
            label = self._ended(both.ids[len(prompt.ids) :] if follows else own.ids)
            row: Row = entry.rows[0]
            if not entry.truncated and label and row.num_tokens + len(label) <= self._decoder.max_length:
                yield TrainingRow(row, label)

    def _framed(self, example: Example) -> str:
        """The completion with what a chat template writes around it."""
        if not isinstance(example.item, Conversation) or self._chat is None:
            return str(example.target)
        if self._frame is None:
            self._frame = AnswerFrame.of(self._chat)
        return f"{self._frame.before}{example.target}{self._frame.after}"

    def _ended(self, token_ids: Sequence[int]) -> list[int]:
        """Up to the first token that ends a text, or with one put behind."""
        ends = self._decoder.eos_token_ids
        place = next((place for place, token in enumerate(token_ids) if token in ends), None)
        whole = [*token_ids, *ends[:1]] if place is None else token_ids[: place + 1]
        return list(whole[: self._limit])

"""Conversations from records: the last answer is what is learnt, and what was said before is its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from app.core.errors import HooperError, InvalidInput, InvalidSettings
from app.core.fields import same_column
from app.data import Record
from app.data.cells import plain, spelled
from app.tasks.base import Encoded, refuse_text
from app.tasks.chat_template import ChatTemplate
from app.tasks.generation import SourceText
from app.tasks.text_generation.task import ContinueOptions, Prompt, TextGeneration
from scripts.training.data import Broken, Example
from scripts.training.recipe import Recipe

MESSAGE_COLUMNS = ("messages", "conversations", "conversation")
ROLES = ("system", "developer", "user", "assistant", "tool")
OTHER_ROLES: Mapping[str, str] = {"human": "user", "gpt": "assistant", "developer": "system"}
"""What roles are called in data of other tools, and by OpenAI, to what chat templates call them."""
SAMPLED = 20
"""Rows of a source that are looked at."""
MAX_RENDERED = 100_000
"""Texts of conversations that are kept."""
Names = tuple[tuple[str, str], ...]
ANSWER = "XQZX"
"""A text that no template has of its own."""


@dataclass(frozen=True, slots=True)
class Conversation(SourceText):
    """What was said before an answer; `text` is for people."""

    messages: tuple[tuple[str, str], ...] = ()
    """Role and content of each."""


@dataclass(frozen=True, slots=True)
class AnswerFrame:
    """What a chat template writes around an answer, behind the beginning that it gives it."""

    before: str = ""
    after: str = ""

    @classmethod
    def of(cls, chat: ChatTemplate) -> AnswerFrame:
        """
        Raises:
            InvalidSettings: the template writes an answer in another place than where it asks for one.
        """
        question = [{"role": "user", "content": "Good morning!"}]
        asked = chat.render(question)
        whole = chat.render([*question, {"role": "assistant", "content": ANSWER}], add_generation_prompt=False)
        if not whole.startswith(asked) or whole.count(ANSWER) != 1:
            raise InvalidSettings(
                "the base model's chat template writes an answer otherwise than it asks for one, so that nothing can be learnt"
                " from messages; bring columns prompt and completion"
            )
        return cls(*whole.removeprefix(asked).split(ANSWER))


def message_column(recipe: Recipe, records: Mapping[str, Sequence[Record]]) -> str:
    """The column of conversations: the named one where it holds lists, else one that is called so; empty: there is none."""
    rows = [row for of_source in records.values() for row in islice((row for row in of_source if not row.broken), SAMPLED)]
    present = list(dict.fromkeys(name for row in rows for name in row.columns))
    named = recipe.source_column or recipe.text_column
    for name in [named] if named else MESSAGE_COLUMNS:
        column = same_column(name, present)
        if column is not None and any(holds_messages(row.columns.get(column)) for row in rows):
            return column
    return ""


def holds_messages(cell: Any) -> bool:
    """Whether a cell is a list, or spells one; whether it is one of messages is told of each row."""
    return isinstance(spelled(plain(cell)), list)


def parse_conversation(record: Record, source: str, column: str) -> Example | Broken:
    """A record as an example: the messages before the last one, and the last one's text; or why it is none."""
    if record.broken:
        return Broken(record.where, record.broken)
    if column not in record.columns:
        return Broken(record.where, f"missing column {column!r}")
    try:
        messages = _messages(spelled(plain(record.columns[column])))
    except InvalidInput as error:
        return Broken(record.where, f"{error.field}: {error.reason}")
    if messages[-1][0] != "assistant":
        return Broken(record.where, f"the last message is of the {messages[-1][0]}: there is no answer to learn from")
    if len(messages) == 1:
        return Broken(record.where, "there is an answer, but nothing that it answers")
    *before, (_, answer) = messages
    text = "\n".join(f"{role}: {content}" for role, content in before)
    return Example(Conversation(text, tuple(before)), answer.strip(), source, record.where)


def _messages(cell: Any) -> list[tuple[str, str]]:
    """
    Raises:
        InvalidInput: these are no messages, and which part of them is wrong.
    """
    if not isinstance(cell, list) or not cell or not all(isinstance(message, Mapping) for message in cell):
        raise InvalidInput("should be a list of objects with role and content", "messages")
    return [_message(message, f"messages[{place}]") for place, message in enumerate(cell)]


def _message(message: Mapping[str, Any], place: str) -> tuple[str, str]:
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    name = OTHER_ROLES.get(str(role), str(role))
    if name not in ROLES:
        given = "has no role" if role is None else f"has the role {role!r}"
        raise InvalidInput(f"{given}; known are {', '.join(ROLES)}", place)
    if not isinstance(content, str):
        raise InvalidInput("has no text as its content", place)
    if (refusal := refuse_text(content, "content")) is not None and name != "system":
        raise InvalidInput(f"its content {refusal.reason}", place)
    return name, content


class ConversationReader(TextGeneration):
    """The production task, which reads conversations too: as the text that its chat template makes of them."""

    def encode(self, items: Sequence[SourceText], options: ContinueOptions) -> list[Encoded | HooperError]:
        texts = [self._text(item) for item in items]
        encoded = iter(super().encode([text for text in texts if not isinstance(text, HooperError)], options))
        return [text if isinstance(text, HooperError) else next(encoded) for text in texts]

    def read(self, item: SourceText) -> SourceText:
        """
        Raises:
            InvalidInput: there is no template, or it refuses the conversation.
        """
        return rendered(item, self.chat_template) if isinstance(item, Conversation) else item

    def _text(self, item: SourceText) -> SourceText | HooperError:
        try:
            return self.read(item)
        except HooperError as error:
            return error


def rendered(conversation: Conversation, chat: ChatTemplate | None) -> Prompt:
    """
    Raises:
        InvalidInput: there is no template, or it refuses the conversation.
    """
    if chat is None:
        raise InvalidInput(
            "it is a conversation, but the base model has no chat template, which says how one is read; take one that has, or"
            " bring columns prompt and completion",
            MESSAGE_COLUMNS[0],
        )
    sources, tokens = (tuple(sorted(names.items())) for names in (chat.sources, chat.special_tokens))
    return Prompt(_text_of(sources, tokens, conversation.messages), has_special_tokens=True)


@lru_cache(MAX_RENDERED)  # a row is read when it is checked, to train and to evaluate
def _text_of(sources: Names, tokens: Names, messages: tuple[tuple[str, str], ...]) -> str:
    read = [{"role": role, "content": content} for role, content in messages]
    return ChatTemplate(dict(sources), dict(tokens)).render(read)

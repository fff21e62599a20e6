"""Conversations as data: what is learnt of them, and why a row is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.core.errors import InvalidInput, InvalidSettings
from app.core.manifest import Decoder
from app.data import Record
from app.tasks.base import Encoded
from app.tasks.chat_template import ChatTemplate
from app.tasks.generation import SourceText
from app.tasks.text_generation.task import ContinueOptions, Prompt
from app.tasks.tokenizer import Tokenizer
from scripts.tasks.text_generation import SPEC as TASK
from scripts.tasks.text_generation.conversations import (
    AnswerFrame,
    Conversation,
    ConversationReader,
    message_column,
    parse_conversation,
)
from scripts.training.data import Broken, Example
from scripts.training.recipe import Recipe
from tests.support.chat_templates import CHATML, STRICT
from tests.support.writing import byte_level_json

USER, ANSWER = {"role": "user", "content": "How?"}, {"role": "assistant", "content": " So. "}


def reader(source: str = "") -> ConversationReader:
    options = {"chat_template": {"default": source}, "chat_tokens": {"bos_token": "<s>"}} if source else {}
    decoder = Decoder(
        file="model.onnx", has_encoder=False, num_layers=1, num_heads=1, head_size=8, vocab_size=300, max_length=200
    )
    task = TASK.serving_task(Tokenizer(byte_level_json(), 200), options, decoder)
    assert isinstance(task, ConversationReader)
    return task


def template(source: str) -> ChatTemplate:
    return ChatTemplate({"default": source}, {"bos_token": "<s>"})


def parsed(cell: Any) -> Example | Broken:
    return parse_conversation(Record("a:1", {"messages": cell}), "a", "messages")


@pytest.mark.parametrize(
    "cell",
    [
        [USER, ANSWER],
        json.dumps([USER, ANSWER]),
        [{"from": "human", "value": "How?"}, {"from": "gpt", "value": " So. "}],
    ],
    ids=["objects", "text", "as other tools call them"],
)
def test_the_last_answer_is_learnt_and_what_was_said_before_is_its_prompt(cell: Any) -> None:
    example = parsed(cell)
    assert isinstance(example, Example)
    assert (example.item, example.target) == (Conversation("user: How?", (("user", "How?"),)), "So.")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("How?", "messages: should be a list of objects with role and content"),
        ([USER], "the last message is of the user: there is no answer to learn from"),
        ([ANSWER], "there is an answer, but nothing that it answers"),
        ([USER, {"role": "bot", "content": "x"}], "messages[1]: has the role 'bot'; known are system, developer, user"),
        ([USER, {"content": "x"}], "messages[1]: has no role"),
        ([USER, {"role": "assistant", "content": None}], "messages[1]: has no text as its content"),
        ([USER, {"role": "assistant", "content": " "}], "messages[1]: its content must not be empty"),
    ],
)
def test_a_row_that_is_none_is_told_in_a_sentence(cell: Any, reason: str) -> None:
    broken = parsed(cell)
    assert isinstance(broken, Broken)
    assert broken.why.startswith(reason)


@pytest.mark.parametrize(
    ("columns", "named", "found"),
    [
        ({"Messages": "[]", "id": "1"}, "", "Messages"),
        ({"conversations": []}, "", "conversations"),
        ({"conversation": "a: hello b: good morning", "label": "polite"}, "", ""),
        ({"prompt": "a", "completion": "b"}, "", ""),
        ({"messages": [], "prompt": "a"}, "prompt", ""),
        ({"dialogue": [USER], "prompt": "a"}, "dialogue", "dialogue"),
    ],
)
def test_the_column_of_conversations(columns: dict[str, Any], named: str, found: str) -> None:
    assert message_column(Recipe(text_column=named), {"a": [Record("a:1", columns)]}) == found


def test_a_conversation_is_read_as_the_chat_template_renders_it() -> None:
    task = reader(CHATML)
    conversation = Conversation("", (("user", "How?"),))
    text = "<|im_start|>user\nHow?<|im_end|>\n\n<|im_start|>assistant\n"
    assert task.read(conversation) == Prompt(text, has_special_tokens=True)
    options = ContinueOptions()
    mixed = [SourceText("x"), conversation, Prompt(text, has_special_tokens=True)]
    plain, read, expected = task.encode(mixed, options)
    assert isinstance(plain, Encoded)
    assert isinstance(read, Encoded)
    assert isinstance(expected, Encoded)
    assert plain.num_tokens == 1
    assert read.rows[0].input_ids == expected.rows[0].input_ids


def test_what_cannot_be_rendered_is_an_error_in_its_place() -> None:
    conversation = Conversation("", (("system", "Be brief."), ("user", "How?")))
    for task, reason in ((reader(), "the base model has no chat template"), (reader(STRICT), "System role not supported")):
        first, error = task.encode([SourceText("x"), conversation], ContinueOptions())
        assert isinstance(first, Encoded)
        assert isinstance(error, InvalidInput)
        assert reason in error.reason


def test_what_a_template_writes_around_an_answer() -> None:
    assert AnswerFrame.of(template(CHATML)) == AnswerFrame("", "<|im_end|>\n\n")
    asks_otherwise = "{% for m in messages %}[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}?{% endif %}"
    with pytest.raises(InvalidSettings, match="writes an answer otherwise than it asks for one"):
        AnswerFrame.of(template(asks_otherwise))

"""Conversations as data: what is learnt of them, and why a row is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.data import Record
from app.tasks.chat_template import ChatTemplate
from app.tasks.generation import SourceText
from app.tasks.text_generation.task import Prompt
from scripts.tasks.text_generation.conversations import (
    AnswerFrame,
    Conversation,
    message_column,
    parse_conversation,
    rendered,
)
from scripts.training.data import Broken, Example
from scripts.training.recipe import Recipe
from tests.support.chat_templates import CHATML, STRICT

USER, ANSWER = {"role": "user", "content": "How?"}, {"role": "assistant", "content": " So. "}


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
        ({"prompt": "a", "completion": "b"}, "", ""),
        ({"messages": [], "prompt": "a"}, "prompt", ""),
        ({"dialogue": [USER], "prompt": "a"}, "dialogue", "dialogue"),
    ],
)
def test_the_column_of_conversations(columns: dict[str, Any], named: str, found: str) -> None:
    assert message_column(Recipe(text_column=named), {"a": [Record("a:1", columns)]}) == found


def test_a_conversation_is_read_as_the_chat_template_renders_it() -> None:
    example = Example(Conversation("", (("user", "How?"),)), "So.", "a", "a:1")
    (read,) = rendered([example], template(CHATML))
    assert read.item == Prompt("<|im_start|>user\nHow?<|im_end|>\n\n<|im_start|>assistant\n", has_special_tokens=True)
    assert rendered([Example(SourceText("x"), "y", "a", "a:1")], None)[0].item == SourceText("x")


def test_what_cannot_be_rendered_is_refused_with_its_row() -> None:
    example = Example(Conversation("", (("system", "Be brief."), ("user", "How?"))), "So.", "a", "a:7")
    with pytest.raises(InvalidSettings, match="a:7 is a conversation, but the base model has no chat template"):
        rendered([example], None)
    with pytest.raises(InvalidSettings, match="a:7: the base model's chat template refuses it: System role not supported"):
        rendered([example], template(STRICT))


def test_what_a_template_writes_around_an_answer() -> None:
    assert AnswerFrame.of(template(CHATML)) == AnswerFrame("", "<|im_end|>\n\n")
    asks_otherwise = "{% for m in messages %}[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}?{% endif %}"
    with pytest.raises(InvalidSettings, match="writes an answer otherwise than it asks for one"):
        AnswerFrame.of(template(asks_otherwise))

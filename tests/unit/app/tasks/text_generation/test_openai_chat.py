"""Which of a text are calls of tools, and messages in the form that templates read; the route is asked in test_openai.py."""

from __future__ import annotations

import pytest

from app.tasks.text_generation.openai_chat import ChatMessage, called

CALL = '<tool_call>\n{"name": "see", "arguments": {"a": "é"}}\n</tool_call>'


@pytest.mark.parametrize(
    "text", ['<tool_call>["a"]</tool_call>', '<tool_call>{"a": 1}</tool_call>', "<tool_call>", "a", CALL + "<tool_call>{"]
)
def test_what_only_looks_like_a_call_is_text(text: str) -> None:
    assert called(text) == (text, [])


def test_calls_are_told_one_by_one_behind_the_text_before_them() -> None:
    text, calls = called("First: " + CALL + "\n" + CALL.removesuffix("</tool_call>"))
    assert text == "First:"
    assert [call["function"] for call in calls] == [{"name": "see", "arguments": '{"a": "é"}'}] * 2
    assert calls[0]["id"] != calls[1]["id"]


def test_a_message_is_told_to_a_template_in_the_form_that_it_reads() -> None:
    call = {"id": "1", "function": {"name": "see", "arguments": '{"a": 1}'}}
    message = ChatMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [call]})
    told = message.as_template_reads_it()
    assert (told["content"], told["tool_calls"][0]["function"]["arguments"]) == ("", {"a": 1})
    developer = ChatMessage.model_validate({"role": "developer", "name": "Eve", "content": [{"type": "text", "text": "a"}]})
    assert developer.as_template_reads_it() == {"role": "system", "content": "a", "name": "Eve"}

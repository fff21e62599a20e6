"""Messages in the form that templates read; the route is asked in test_openai.py."""

from __future__ import annotations

from app.tasks.text_generation.openai_chat import ChatMessage


def test_a_message_is_told_to_a_template_in_the_form_that_it_reads() -> None:
    call = {"id": "1", "function": {"name": "see", "arguments": '{"a": 1}'}}
    message = ChatMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [call]})
    told = message.as_template_reads_it()
    assert (told["content"], told["tool_calls"][0]["function"]["arguments"]) == ("", {"a": 1})
    developer = ChatMessage.model_validate({"role": "developer", "name": "Eve", "content": [{"type": "text", "text": "a"}]})
    assert developer.as_template_reads_it() == {"role": "system", "content": "a", "name": "Eve"}

"""What a template may take of the machine: a process of its own ends where it wants more."""

from __future__ import annotations

import os
import signal

import pytest

from app.core.errors import InvalidInput
from app.tasks.chat_template import ChatTemplate, TemplateProcess
from app.tasks.template_worker import MAX_CHARACTERS
from tests.support.chat_templates import CHATML

TURNS = ({"role": "user", "content": "Good morning!"},)


def chat(source: str) -> ChatTemplate:
    return ChatTemplate({"default": source}, {})


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "0.1 s of processor time"),
        ("{% set n = namespace(x='aa') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}", "processor|memory"),
        ("{{ 'a' | center(10 ** 10) }}", "more memory than it may have"),
        ("{% for a in range(9999) %}{{ 'a' * 9999 }}{% endfor %}", f"writes more than {MAX_CHARACTERS:,} characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself too often"),
        ("{{ range(10 ** 6) }}", "Range too big"),
        ("{{ messages[9].content }}", "UndefinedError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% for message in messages %}", "TemplateSyntaxError"),
        ("{{ none.content.text }}", "UndefinedError"),
    ],
)
def test_a_template_that_takes_too_much_or_goes_wrong_is_ended_and_the_next_one_rendered(source: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        chat(source).render(TURNS)
    assert chat(CHATML).render(TURNS).startswith("<|im_start|>user")


def test_more_messages_than_can_be_rendered_in_time_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"processor time|more than"):
        chat(CHATML).render(TURNS[:1] * 100_000)


def test_a_process_that_somebody_else_ended_is_replaced() -> None:
    process = TemplateProcess()
    try:
        assert process.render("{{ a }}", {"a": 1}) == {"text": "1"}
        assert process._process is not None
        os.kill(process._process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process._process.pid, os.WEXITED | os.WNOWAIT)
        assert process.render("{{ a }}", {"a": 2}) == {"text": "2"}
    finally:
        process.close()

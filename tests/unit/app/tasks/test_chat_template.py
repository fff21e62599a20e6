from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from app.core.errors import InvalidArtefact, InvalidInput
from app.tasks.chat_template import PROCESS, ChatTemplate
from tests.support.chat_templates import CHATML, DATED, STRICT, TEMPLATES, TOOLS

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TURNS = (
    {"role": "user", "content": "Is 2 < 3 & <b>?"},
    {"role": "assistant", "content": " Ja, “schön”.\n"},
    {"role": "user", "content": "{{ 7 * 6 }} 😀"},
)
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"town": "Köln", "a": 1}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"z": 1, "a": "<Köln>"}}}


@pytest.fixture(scope="module", autouse=True)
def _process() -> Iterator[None]:
    yield
    PROCESS.close()


def chat(source: str, **named: str) -> ChatTemplate:
    return ChatTemplate({"default": source, **named}, TOKENS)


def as_transformers(source: str, messages: Sequence[Mapping[str, Any]], tools: Any = None, **variables: Any) -> str:
    rendered, _ = render_jinja_template(
        [list(messages)], tools=tools, chat_template=source, add_generation_prompt=True, **TOKENS, **variables
    )
    return str(rendered[0])


@pytest.mark.parametrize("name", TEMPLATES)
def test_conversations_are_rendered_as_by_transformers(name: str) -> None:
    template = chat(TEMPLATES[name])
    template.check()
    for messages in (TURNS, TURNS[:1]):
        assert template.render(messages) == as_transformers(TEMPLATES[name], messages)


def test_tools_their_calls_and_a_templates_own_variables_are_rendered_as_by_transformers() -> None:
    messages = (*TURNS[:1], {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "rain"})
    rendered = chat(TOOLS).render(messages, [TOOL], variables={"enable_thinking": False})
    assert rendered == as_transformers(TOOLS, messages, [TOOL], enable_thinking=False)
    assert '"arguments": {"town": "Köln", "a": 1}' in rendered
    assert rendered.endswith("<think></think>")


def test_tools_are_told_by_the_template_that_is_for_them() -> None:
    template = chat(CHATML, tool_use="{{ tools[0].function.name }}")
    assert template.render(TURNS, [TOOL]) == "weather"
    assert template.render(TURNS).startswith("<|im_start|>")
    assert [each.knows_tools for each in (template, chat(CHATML), chat(TOOLS))] == [True, False, True]


def test_what_a_template_refuses_is_refused_in_its_words() -> None:
    with pytest.raises(InvalidInput, match=r"^messages: System role not supported$"):
        chat(STRICT).render([{"role": "system", "content": "Be brief."}, *TURNS])
    with pytest.raises(InvalidInput, match=r"^messages: Conversation roles must alternate"):
        chat(STRICT).render([*TURNS, *TURNS])


def test_the_process_sees_half_of_a_pair_and_no_message_is_a_template() -> None:
    assert chat(DATED).render([{"role": "user", "content": "\ud83d {{ bos_token }}"}]).count("<s>") == 1


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        ({"tool_use": CHATML}, "none under the name 'default'"),
        ({"default": "a" * 256_001}, "at most 256000"),
        ({"default": "{{ messages[7].content }}"}, "a greeting cannot be rendered"),
        ({"default": "{{ raise_exception('never') }}"}, "a greeting cannot be rendered: never"),
    ],
)
def test_a_template_that_no_conversation_could_be_held_with_refuses_the_model(sources: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidArtefact, match=reason):
        ChatTemplate(sources, {}).check()

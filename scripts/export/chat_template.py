"""The chat template of a checkpoint: what of it is published, and whether the service renders it as transformers does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.core.errors import InvalidArtefact, InvalidInput
from app.tasks.chat_template import DEFAULT, WITH_TOOLS, ChatTemplate

GREETING = {"role": "user", "content": "Good morning! What is 2 < 3 & “why”?"}
CONVERSATIONS: Sequence[Sequence[Mapping[str, Any]]] = (
    (GREETING,),
    ({"role": "system", "content": "Be brief."}, GREETING),
    (GREETING, {"role": "assistant", "content": "  True.\n"}, {"role": "user", "content": "Schön, danke 😀"}),
)
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather <now> in a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}
"""As OpenAI's API describes a function."""


def chat_options(tokenizer: Any) -> dict[str, Any]:
    """Options of a task that can hold conversations, from a tokenizer of transformers; none where it has no template.

    Raises:
        InvalidArtefact: the service renders one of some conversations otherwise than transformers does.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return {}
    named = template if isinstance(template, dict) else {DEFAULT: template}
    if DEFAULT not in named:
        return {}
    sources = {name: named[name] for name in (DEFAULT, WITH_TOOLS) if name in named}
    tokens = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    chat = ChatTemplate(sources, tokens)
    chat.check()
    for conversation in CONVERSATIONS:
        _compare(tokenizer, chat, conversation, None)
    if chat.knows_tools:
        _compare(tokenizer, chat, CONVERSATIONS[0], [TOOL])
    return {"chat_template": sources, "chat_tokens": tokens}


def _compare(tokenizer: Any, chat: ChatTemplate, conversation: Any, tools: Any) -> None:
    try:
        expected = tokenizer.apply_chat_template(list(conversation), tools=tools, tokenize=False, add_generation_prompt=True)
    except Exception:  # a template may refuse what it does not know, such as a system's message: then both have to
        expected = None
    try:
        rendered = chat.render(conversation, tools)
    except InvalidInput as error:
        rendered, reason = None, error.reason
    else:
        reason = f"{rendered!r}"
    if rendered != expected:
        raise InvalidArtefact(
            f"the chat template is rendered otherwise than by transformers: {reason}, where transformers has {expected!r}"
        )

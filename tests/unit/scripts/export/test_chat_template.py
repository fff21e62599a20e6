from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer as _Tokenizer
from transformers import PreTrainedTokenizerFast

from app.core.errors import InvalidArtefact
from app.tasks.chat_template import ChatTemplate
from scripts.export.chat_template import chat_options
from tests.support.chat_templates import STRICT, TEMPLATES, TOOLS
from tests.support.writing import byte_level_json


def tokenizer(template: Any) -> Any:
    made = PreTrainedTokenizerFast(
        tokenizer_object=_Tokenizer.from_str(byte_level_json()), bos_token="<pad>", eos_token="</s>",
        extra_special_tokens={"image_token": "<unk>"},
    )  # fmt: skip
    made.chat_template = template
    return made


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_published_with_the_special_tokens_that_it_may_name(name: str) -> None:
    options = chat_options(tokenizer(TEMPLATES[name]))
    assert options["chat_template"] == {"default": TEMPLATES[name]}
    assert options["chat_tokens"]["bos_token"] == "<pad>"
    ChatTemplate(options["chat_template"], options["chat_tokens"]).check()


def test_of_several_templates_those_for_conversations_and_for_tools_are_published() -> None:
    options = chat_options(tokenizer({"default": STRICT, "tool_use": TOOLS, "rag": "{{ documents }}"}))
    assert options["chat_template"] == {"default": STRICT, "tool_use": TOOLS}


@pytest.mark.parametrize("template", [None, "", {"rag": STRICT}])
def test_a_checkpoint_without_one_holds_no_conversations(template: Any) -> None:
    assert chat_options(tokenizer(template)) == {}


@pytest.mark.parametrize("template", ["{{ strftime_now }}", "{{ 'a' * 2 * 10 ** 6 }}"])
def test_a_template_that_the_service_renders_otherwise_is_refused(template: str) -> None:
    with pytest.raises(InvalidArtefact):
        chat_options(tokenizer(template))

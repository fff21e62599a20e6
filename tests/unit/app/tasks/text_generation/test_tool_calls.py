"""Calls of functions in the ways of several families: what their templates tell of it, what is forced, and what is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest

from app.core.errors import InvalidInput
from app.tasks.chat_template import ChatTemplate
from app.tasks.constraints import OutputFormat
from app.tasks.text_generation.tool_calls import (
    HERMES,
    CallForm,
    CallHolder,
    CallReader,
    WrittenCall,
    arguments_schema,
    call_form,
    call_grammar,
)
from tests.support.babbler import Babbler
from tests.support.chat_templates import CHATML, LLAMA, MISTRAL, TEKKEN, TOOLS
from tests.support.writing import byte_level_json, metaspace_json

SPECIAL = {"CALLS": "<unk>", "ARGS": "<pad>"}
"""Tokens of every vocabulary here, in the place of those by which calls are marked."""
RIVER = {
    "$defs": {"kind": {"enum": ["small", "big"]}},
    "type": "object",
    "properties": {"kind": {"$ref": "#/$defs/kind"}, "length": {"type": "integer"}},
    "required": ["kind"],
}
FUNCTIONS: Mapping[str, Any] = {
    "see": RIVER,
    "see_all": None,
    'say "ö"': {"properties": {"a": {"type": "boolean"}}},
    "</s>": None,
}
EOS_TOKENS = ("</s>", "<|im_end|>")


def form_of(template: str, **variables: Any) -> CallForm:
    return call_form(ChatTemplate({"default": template}, {"eos_token": "</s>", **SPECIAL}), variables, EOS_TOKENS)


def parsed(call: WrittenCall) -> tuple[str, Any]:
    return call.name, json.loads(call.arguments)


FORMS = {
    TOOLS: CallForm(HERMES.before, HERMES.middle, HERMES.between, HERMES.after),
    LLAMA: CallForm('{"name": "', '", "parameters": ', None, "}"),
    MISTRAL: CallForm(
        '<unk> [{"name": "', '", "arguments": ', ', "id": "HooperId1"}, {"name": "', ', "id": "HooperId1"}]'
    ),
    TEKKEN: CallForm("<unk>", "<pad>", "<unk>", ""),
    CHATML: HERMES,
}  # fmt: skip
FAMILIES = pytest.mark.parametrize("template", [TOOLS, LLAMA, MISTRAL, TEKKEN], ids=["hermes", "llama", "mistral", "tekken"])


@pytest.mark.parametrize("template", FORMS)
def test_how_calls_are_written_is_found_out_from_the_template(template: str) -> None:
    assert form_of(template) == FORMS[template]


def test_an_answer_that_is_begun_otherwise_is_called_from_where_both_are_alike() -> None:
    assert form_of(TOOLS, enable_thinking=False) == FORMS[TOOLS]
    thinking = TOOLS.replace("'<|im_start|>assistant' }}", "'<|im_start|>assistant\\n<think>\\n\\n</think>\\n' }}")
    assert form_of(thinking).before == "<think>\n\n</think>\n\n" + HERMES.before


@FAMILIES
@pytest.mark.parametrize("definition", [byte_level_json, metaspace_json])
def test_what_is_forced_is_calls_that_obey(template: str, definition: Any) -> None:
    model, form = Babbler(definition(), has_encoder=False), form_of(template)
    special_tokens = model.tokenizer.special_tokens()
    num_calls = []
    for seed in range(4):
        max_calls = 1 + seed % 3
        grammar = call_grammar(form, list(FUNCTIONS.items()), special_tokens, max_calls)
        text, has_ended = model.write(OutputFormat.of_calls(grammar), seed, temperature=float(seed % 2))
        reader = CallReader(form, list(FUNCTIONS), special_tokens, max_calls)
        calls = reader.written(text)
        num_calls.append(len(calls))
        if has_ended:
            for call in calls:
                jsonschema.validate(json.loads(call.arguments), arguments_schema(FUNCTIONS[call.name]))
            assert 1 <= len(calls) <= max_calls
            said, read = reader.read(text)
            assert (said, [parsed(call) for call in read]) == ("", [parsed(call) for call in calls])
    assert max(num_calls) == 1 or form.between is not None


def test_a_document_may_stand_in_the_place_of_calls() -> None:
    model, form = Babbler(byte_level_json(), has_encoder=False), form_of(TOOLS)
    reader = CallReader(form, ["see"], model.tokenizer.special_tokens(), 1)
    grammar = call_grammar(form, [("see", RIVER)], model.tokenizer.special_tokens(), 1, {"enum": [1, 2]})
    written = {model.write(OutputFormat.of_calls(grammar), seed)[0] for seed in range(20)}
    assert {text for text in written if not reader.read(text)[1]} <= {"1", "2"}
    assert len({bool(reader.read(text)[1]) for text in written}) == 2


def test_of_a_call_that_was_cut_the_beginning_is_told() -> None:
    reader = CallReader(FORMS[TOOLS], ["see", "see_all"], [], 9)
    whole = '<tool_call>\n{"name": "see_all", "arguments": {"a": 1}}\n</tool_call>'
    assert reader.written(whole + '\n<tool_call>\n{"name": "see", "arguments": {"b":') == [
        ("see_all", '{"a": 1}'), ("see", '{"b":'),
    ]  # fmt: skip
    assert reader.written(whole[:-30]) == []


@pytest.mark.parametrize(
    ("template", "text", "said", "calls"),
    [
        (TOOLS, 'Well: <tool_call>[{"arguments": {"a": "é"}, "name": "x"}]</tool_call>', "Well:", [("x", '{"a": "é"}')]),
        (TOOLS, '<tool_call>{"name": "x"}</tool_call><tool_call>{"name": "y"}', "", [("x", "{}"), ("y", "{}")]),
        (LLAMA, ' {"name": "see", "parameters": {"a": 1}}; {"name": "see"}', "", [("see", '{"a": 1}'), ("see", "{}")]),
        (MISTRAL, ' [{"name":"see","arguments":"{}","id":"abc"}]', "", [("see", "{}")]),
        (TEKKEN, 'see{"a": 1}', "", [("see", '{"a": 1}')]),
    ],
)
def test_calls_are_read_however_they_are_laid_out(template: str, text: str, said: str, calls: Any) -> None:
    assert CallReader(form_of(template), ["see"], SPECIAL.values(), 9).read(text) == (said, calls)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        *((TOOLS, text) for text in ("a", "<tool_call>", '<tool_call>["a"]</tool_call>', '<tool_call>{"name": 1}</tool_call>')),
        (TOOLS, '<tool_call>{"name": "a"}</tool_call><tool_call>{'),
        (TOOLS, "<tool_call>" + "[" * 100_000),
        *((LLAMA, text) for text in ('{"name": "other"}', '{"a": 1}', 'a {"name": "see"}', "[]")),
        (MISTRAL, '[{"name": "Anna", "arguments": {}}]'),
        (TEKKEN, 'sea{"a": 1}'),
    ],
)
def test_what_only_looks_like_a_call_is_text(template: str, text: str) -> None:
    assert CallReader(form_of(template), ["see"], SPECIAL.values(), 9).read(text) == (text, [])


def test_of_a_stream_what_may_be_a_call_is_held_back() -> None:
    def told(template: str, *pieces: str) -> list[str]:
        holder = CallHolder(CallReader(form_of(template), ["see"], SPECIAL.values(), 9), is_forced=False)
        return [holder.push(piece) for piece in pieces]

    assert told(TOOLS, "a <to", "ol", " b <tool_call>", "c") == ["a ", "", "<tool b ", ""]
    assert told(LLAMA, " ", '{"na', "me") == ["", "", ""]
    assert told(LLAMA, " ", "a", "{") == ["", " a", "{"]
    assert told(TEKKEN, "s", "e", "a") == ["", "", "sea"]
    assert told(TEKKEN, "see", "{") == ["", ""]


def test_a_schema_that_cannot_be_followed_is_refused() -> None:
    model = Babbler(byte_level_json(), has_encoder=False)
    grammar = call_grammar(FORMS[TOOLS], [("see", {"not": {}})], {}, 1)
    with pytest.raises(InvalidInput, match="tools: cannot be followed: Unimplemented keys"):
        model.compiler.compiled(OutputFormat.of_calls(grammar))
    with pytest.raises(InvalidInput, match="tools: schemas have"):
        OutputFormat.of_calls(call_grammar(FORMS[TOOLS], [("see", {"title": "a" * 70_000})], {}, 1))


def test_where_a_special_token_may_stand_no_other_may() -> None:
    model = Babbler(metaspace_json(), has_encoder=False)
    tokenizer = model.tokenizer
    grammar = call_grammar(FORMS[TEKKEN], [("see", None), ("see_all", None)], tokenizer.special_tokens(), 1)
    written = model.compiler.compiled(OutputFormat.of_calls(grammar)).start()
    for number in map(tokenizer.token_id, ("<unk>", "s", "e", "e")):
        assert number is not None
        written.advance(number)
    assert {tokenizer.token(int(number)) for number in written.allowed().nonzero()[0]} == {"<pad>", "<0x5F>"}


def test_arguments_have_no_names_but_those_that_a_schema_has_unless_it_speaks_of_others() -> None:
    assert arguments_schema(None) == {"type": "object", "properties": {}, "additionalProperties": False}
    assert arguments_schema({"properties": {"a": {}}})["additionalProperties"] is False
    open_ones: list[dict[str, Any]] = [{}, {"properties": {}, "anyOf": [{}]}, {"properties": {}, "additionalProperties": True}]
    for schema in open_ones:
        assert arguments_schema(schema) == {"type": "object", **schema}

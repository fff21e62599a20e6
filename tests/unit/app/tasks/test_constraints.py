from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from app.core.errors import InvalidInput
from app.tasks.constraints import MAX_SCHEMA_CHARACTERS, GrammarCompiler, GrammarFilter, OutputFormat
from app.tasks.tokenizer import Tokenizer
from tests.support.babbler import Babbler
from tests.support.random_schemas import random_schema
from tests.support.writing import byte_level_json, metaspace_json, word_piece_json

MODELS: dict[str, Callable[[], Babbler]] = {
    "bytes": lambda: Babbler(byte_level_json()),
    "marks": lambda: Babbler(metaspace_json()),
    "marks, continued": lambda: Babbler(metaspace_json(), has_encoder=False),
}


NUM_BY_DAY = 25
"""Schemas; those behind them come at night."""
ONE_BY_DAY = pytest.mark.parametrize(
    "model", ["bytes", *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name != "bytes")], indirect=True
)
"""For what the compiler promises, whatever the tokens are."""


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Babbler:
    return MODELS[request.param]()


def check_documents(model: Babbler, seeds: range) -> None:
    """Of schemas drawn with these seeds, whatever came to its end obeys."""
    num_ended = 0
    for seed in seeds:
        schema = random_schema(random.Random(seed))
        text, has_ended = model.write(OutputFormat.of_schema(schema), seed, temperature=float(seed % 2))
        if has_ended:
            num_ended += 1
            jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
        else:
            with pytest.raises(json.JSONDecodeError):
                json.loads(text + "�")
    assert num_ended > 0.7 * len(seeds)


def test_every_document_obeys_its_schema(model: Babbler) -> None:
    check_documents(model, range(NUM_BY_DAY))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("start", range(NUM_BY_DAY, 3500, 500))
def test_every_one_of_ten_thousand_documents_obeys_its_schema(model: Babbler, start: int) -> None:
    check_documents(model, range(start, start + 500))


@pytest.mark.parametrize(
    "regex", ["[a-e]{2,4}", "(19|20)\\d\\d-(0[1-9]|1[0-2])", " ?a b", "(a+)+b", "é|ü😀", "/\\w+/", "a[^b]?"]
)
def test_a_text_matches_its_expression(model: Babbler, regex: str) -> None:
    for seed in range(8):
        text, has_ended = model.write(OutputFormat("regex", regex), seed)
        assert has_ended
        assert re.fullmatch(regex, text), text


def test_a_text_is_one_of_its_choices_whatever_they_are(model: Babbler) -> None:
    choices = ["good", "very good", " bad", 'a "quoted" one', "b\n", "é|[a]", "\\d", "%json"]
    written = {model.write(OutputFormat.of_choices(choices), seed)[0] for seed in range(60)}
    assert written <= set(choices)
    assert len(written) > 4


def test_any_object_is_one(model: Babbler) -> None:
    ended = [
        text
        for text, has_ended in (model.write(OutputFormat.of_schema({"type": "object"}), seed) for seed in range(8))
        if has_ended
    ]
    assert ended
    assert all(isinstance(json.loads(text), dict) for text in ended)


def many(count: int) -> Iterator[str]:
    return (f"name {number}" for number in range(count))


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (OutputFormat.of_schema({"not": {"type": "string"}}), 'schema: cannot be followed: Unimplemented keys: ["not"]'),
        (OutputFormat.of_schema({"type": "array", "uniqueItems": True}), 'Unimplemented keys: ["uniqueItems"]'),
        (OutputFormat.of_schema({"type": "strin"}), "Invalid type: strin"),
        (OutputFormat.of_schema({"type": "string", "format": "stamp"}), "Unknown format: stamp"),
        (OutputFormat.of_schema({"$ref": "https://example.org/a.json"}), "not present in a registry"),
        (OutputFormat.of_schema({"type": "integer", "minimum": 2, "maximum": 1}), "schema: cannot be followed"),
        (OutputFormat.of_schema({"type": "string", "pattern": "(?=a)b"}), "look-around"),
        (OutputFormat("regex", "(?=a)b"), "regex: cannot be followed: look-around"),
        (OutputFormat("regex", "(a"), "unclosed group"),
        (OutputFormat("regex", "(a)\\1"), "backreferences are not supported"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_a_sentence(form: OutputFormat, reason: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(reason)) as refused:
        Babbler(byte_level_json()).compiler.compiled(form)
    assert "\n" not in refused.value.detail


def test_a_schema_of_a_megabyte_is_refused() -> None:
    schema = {"properties": {name: {"type": "string"} for name in many(40_000)}}
    with pytest.raises(InvalidInput, match=rf"^schema: has \d+ characters; at most {MAX_SCHEMA_CHARACTERS} are read$"):
        OutputFormat.of_schema(schema)


@ONE_BY_DAY
@pytest.mark.parametrize(
    "regex",
    ["(a{1000}){1000}", "((a{100}){100}){100}", "(a?){999}a{999}", "([ab]*a[ab]{60}){9}", "(.*a){300}", "((a|b|ab)*c){500}"],
)
def test_an_expression_that_grows_without_end_takes_a_bounded_time(model: Babbler, regex: str) -> None:
    began = time.process_time()
    with suppress(InvalidInput):
        model.write(OutputFormat("regex", regex), 1)
    assert time.process_time() - began < 20  # of hundreds of steps, each bounded


def test_a_vocabulary_that_cannot_write_the_form_is_told() -> None:
    pieces = json.loads(metaspace_json())
    pieces["model"]["vocab"] = [piece for piece in pieces["model"]["vocab"] if not piece[0].startswith("<0x")]
    pieces["model"]["byte_fallback"] = False
    pieces["added_tokens"] = pieces["added_tokens"][:3]
    pieces["decoder"] = pieces["decoder"]["decoders"][1]
    with pytest.raises(InvalidInput, match="schema: the model has no token with which the text could go on"):
        Babbler(json.dumps(pieces)).write(OutputFormat.of_schema({"type": "object"}), 1)


def test_tokens_whose_text_nobody_knows_and_models_without_an_end_are_told() -> None:
    form = OutputFormat("regex", "a+")
    with pytest.raises(InvalidInput, match="does not say what text each token is"):
        Babbler(word_piece_json()).compiler.compiled(form)
    with pytest.raises(InvalidInput, match="no token that ends a text"):
        GrammarCompiler(Tokenizer(byte_level_json(), 64), 300, ()).compiled(form)


def test_bytes_are_bytes_whatever_stands_around_their_decoder() -> None:
    pieces = json.loads(byte_level_json())
    replaced = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}  # as of a GGUF file that transformers read
    pieces["decoder"] = {
        "type": "Sequence",
        "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}, replaced, pieces["decoder"]],
    }
    text, has_ended = Babbler(json.dumps(pieces), has_encoder=False).write(OutputFormat.of_choices(["the é\n"]), 0)
    assert (text, has_ended) == ("the é\n", True)


def test_a_special_token_that_is_spelled_in_a_form_is_text_in_it(model: Babbler) -> None:
    assert model.write(OutputFormat.of_choices(["a</s>b"]), 0) == ("a</s>b", True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("lexer error: too many expressions constructed\n<non-verbose/>", "tools: cannot be followed: lexer error: too many"),
        ("Parser Error: token doesn't satisfy the grammar; forced bytes", "tools: the model has no token"),
        ("", "tools: the model has no token"),
    ],
)
def test_why_a_text_could_not_go_on_is_told(error: str, words: str) -> None:
    matcher: Any = SimpleNamespace(consume_token=lambda token: False, get_error=lambda: error)
    with pytest.raises(InvalidInput, match=words):
        GrammarFilter(matcher, OutputFormat.of_calls(""), 9).advance(1)


def test_a_grammar_is_made_once_and_its_sequences_do_not_know_each_other(model: Babbler) -> None:
    form: Any = OutputFormat("regex", "ab|cd")
    grammar = model.compiler.compiled(form)
    assert model.compiler.compiled(OutputFormat("regex", "ab|cd")) is grammar
    assert [model.write(form, seed)[0] for seed in range(6)] == [model.write(form, seed)[0] for seed in range(6)]

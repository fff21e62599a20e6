"""definition: what transformers' tokenizer does, as a tokenizer.json that does it alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from app.core.errors import InvalidSettings
from app.tasks.tokenizer import Tokenizer

TYPE_IDS = "token_type_ids"
PROVEN_TOKENS = 64
"""Length to which the texts below are cut: some are longer, so that the side that is cut shows."""
TEXTS = (
    "The bridge cost $1,250,000, didn't it?",
    "Größe, naïveté, Ångström – “quoted” … and ﬁne ligatures",
    "I'm İstanbul'da, ŻÓŁĆ, Ünïcödé: ½ ² ™",
    "今日は天気がいいから、散歩しましょう。我喜欢读书。",
    "Привет, как дела? Καλημέρα κόσμε. مرحبا بالعالم. שלום עולם",
    "नमस्ते दुनिया สวัสดีชาวโลก 안녕하세요",
    "😀 👩‍👩‍👧 🇩🇪 e\u0301 \u200b\ufeff zero widths",
    "  two  blanks,\ttabs\nand lines \u00a0 ",
    "snake_case CamelCase https://example.org/a?b=c#d user@example.org 3.14e-10",
    "x" * 250,
    "word " * 150 + "end",
)
"""Scripts, marks, blanks and lengths in which tokenizers differ. Special tokens come on top: each tokenizer has its own."""


def definition_of(tokenizer: Any, name: str) -> str:
    """The JSON text of a tokenizer that encodes as the given one does, once it is proven to.

    What transformers adds to a tokenizer.json lies outside of it, and is written into it: token types are 0 where its
    `model_input_names` lack them, and where `truncation_side` is left, `truncation` says so.

    Args:
        name: of the checkpoint, for errors.

    Raises:
        InvalidSettings: it encodes some text otherwise than transformers.
    """
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    definition |= {"padding": None, "truncation": None}
    if tokenizer.truncation_side == "left":
        definition["truncation"] = {"direction": "Left", "max_length": 512, "strategy": "LongestFirst", "stride": 0}
    if TYPE_IDS not in tokenizer.model_input_names:
        definition["post_processor"] = _without_token_types(definition["post_processor"])
    text = json.dumps(definition, ensure_ascii=False)
    _prove(Tokenizer(text, PROVEN_TOKENS), tokenizer, name)
    return text


def _without_token_types(processor: Mapping[str, Any] | None) -> dict[str, Any]:
    """The post-processor with the type 0 for each token, those of a pair's second text too."""
    if processor is None:
        return _template("$A", "$A $B", {})
    kind = processor["type"]
    if kind == "TemplateProcessing":
        return {**processor, **{key: [_untyped(piece) for piece in processor[key]] for key in ("single", "pair")}}
    if kind == "BertProcessing":
        (sep, sep_id), (cls, cls_id) = processor["sep"], processor["cls"]
        return _template(f"{cls} $A {sep}", f"{cls} $A {sep} $B {sep}", {sep: sep_id, cls: cls_id})
    if kind == "RobertaProcessing":  # has no other type
        return dict(processor)
    if kind == "ByteLevel":  # leaves types as they are: 1 for a second text
        return {"type": "Sequence", "processors": [dict(processor), _template("$A", "$A $B", {})]}
    parts = processor["processors"]
    if all(part["type"] == "ByteLevel" for part in parts):
        return {**processor, "processors": [*parts, _template("$A", "$A $B", {})]}
    typed = [part if part["type"] == "ByteLevel" else _without_token_types(part) for part in parts]
    return {**processor, "processors": typed}


def _untyped(piece: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: {**fields, "type_id": 0} for kind, fields in piece.items()}


def _template(single: str, pair: str, special_tokens: Mapping[str, int]) -> dict[str, Any]:
    def piece(part: str) -> dict[str, Any]:
        kind, name = ("Sequence", part[1]) if part in ("$A", "$B") else ("SpecialToken", part)
        return {kind: {"id": name, "type_id": 0}}

    def pieces(template: str) -> list[dict[str, Any]]:
        return [piece(part) for part in template.split()]

    known = {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in special_tokens.items()}
    return {"type": "TemplateProcessing", "single": pieces(single), "pair": pieces(pair), "special_tokens": known}


def _prove(served: Tokenizer, original: Any, name: str) -> None:
    """
    Raises:
        InvalidSettings: the two encode a text, or a pair, to different ids or token types.
    """
    for text in _texts(original):
        try:
            expected = original(*(text if isinstance(text, tuple) else (text,)), truncation=True, max_length=served.max_tokens)
        except Exception as error:  # some want boxes or paths beside the text
            raise InvalidSettings(f"the tokenizer of {name} does not read plain texts and pairs of them: {error}") from error
        ((window, *_),) = served.windows([text])
        types = expected.get(TYPE_IDS) or [0] * len(expected["input_ids"])
        if list(window.input_ids) != expected["input_ids"] or list(window.token_type_ids) != types:
            raise InvalidSettings(
                f"the tokenizer of {name} cannot be served: without transformers it encodes {str(text)[:60]!r} otherwise"
            )


def _texts(tokenizer: Any) -> Iterator[str | tuple[str, str]]:
    specials = tokenizer.all_special_tokens
    within = [f"a {token} b{token}c {token}" for token in specials] + ["".join(specials)]
    yield from (*TEXTS, *within)
    yield from zip(TEXTS, [*TEXTS[1:], *within], strict=False)
    yield from ((text, TEXTS[-1]) for text in within)

"""Checkpoints that translate: for one pair of languages or for many, and where each family puts the languages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from app.tasks.translation.languages import name_of
from app.tasks.translation.spec import SPEC as SERVED
from scripts.tasks.writing import WritingTask, specific_params

CODES: Mapping[str, str] = {
    "MarianTokenizer": r">>(.+)<<",
    "M2M100Tokenizer": r"__(\w+)__",
    "NllbTokenizer": r"([a-z]{3}_[A-Z][a-z]{3})",
    "MBartTokenizer": r"([a-z]{2}_[A-Z]{2})",
    "MBart50Tokenizer": r"([a-z]{2}_[A-Z]{2})",
}
"""Of each tokenizer, the tokens that stand for languages, and the code in them."""
PREFIXED = re.compile(r"translation_([a-z]+)_to_([a-z]+)")
MAX_NAMED = 6


class TranslationCheckpoints(WritingTask):
    """What is particular to their task options."""

    served = SERVED

    def head_sign(self, config: Any, pipeline_tag: str) -> str:
        if pipeline_tag == "translation":
            return "its card says that it translates"
        if config.model_type in ("marian", "m2m_100"):
            return f"models of {config.model_type} translate"
        return "its tokenizer knows languages" if config.model_type == "mbart" else ""

    def is_unlikely_head(self, config: Any) -> bool:
        return True

    def writer_options(self, config: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
        """The languages, and where their tokens stand; see `Translation` for what each option means."""
        name = type(tokenizer).__name__.removesuffix("Fast")
        if name not in CODES:
            return self._prefixed(config)
        tokens = _language_tokens(tokenizer, CODES[name])
        if name == "MarianTokenizer":
            return self._marian(tokenizer, tokens)
        places = _places(name, tokenizer)
        options = {"sources": [*tokens], "targets": [*tokens], "language_tokens": tokens, **places}
        usual = _usual_target(config, tokenizer, tokens)
        if usual:
            options["target"] = usual
        source = _told(tokenizer, "src_lang", tokens)
        if source:
            options["source"] = source
        notes = [f"it knows {len(tokens)} languages: {_named([*tokens])}"]
        if usual:
            notes.append(f"a request that names no target gets {name_of(usual)} ({usual})")
        return options, notes

    def _marian(self, tokenizer: Any, tokens: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
        options = {name: code for name in ("source", "target") if (code := getattr(tokenizer, f"{name}_lang", None))}
        if not tokens:
            return options, []
        options.pop("target", None)  # of all that it knows, none is more usual
        options |= {"targets": [*tokens], "language_tokens": tokens, "target_place": "source"}
        return options, [f"it translates into {len(tokens)} languages: {_named([*tokens])}"]

    def _prefixed(self, config: Any) -> tuple[dict[str, Any], list[str]]:
        """As T5 says it: a sentence before the text."""
        prefixes = {
            f"{pair[1]} {pair[2]}": params["prefix"]
            for name, params in specific_params(config).items()
            if (pair := PREFIXED.fullmatch(name)) and params.get("prefix")
        }
        if not prefixes:
            return {}, ["which languages it is for is not known: requests cannot name any"]
        sources, targets = (list(dict.fromkeys(pair.split()[place] for pair in prefixes)) for place in (0, 1))
        return {"sources": sources, "targets": targets, "prefixes": prefixes}, []


def _language_tokens(tokenizer: Any, pattern: str) -> dict[str, str]:
    """Code to token, by the token's id."""
    known = getattr(tokenizer, "lang_token_to_id", None) or tokenizer.get_vocab()  # M2M100's are in no vocabulary
    vocabulary = sorted(known.items(), key=lambda entry: entry[1])
    pairs = ((re.fullmatch(pattern, token), token) for token, _ in vocabulary)
    return {match[1]: token for match, token in pairs if match}


def _places(name: str, tokenizer: Any) -> dict[str, str]:
    if name == "MBartTokenizer":
        return {"source_place": "last", "target_place": "start"}
    is_old = name == "NllbTokenizer" and getattr(tokenizer, "legacy_behaviour", False)
    return {"source_place": "last" if is_old else "first", "target_place": "first_written"}


def _usual_target(config: Any, tokenizer: Any, tokens: Mapping[str, str]) -> str:
    """What the checkpoint starts with or writes first where nothing is said, as those for one pair do; else nothing."""
    codes = {tokenizer.convert_tokens_to_ids(token): code for code, token in tokens.items()}
    first = (getattr(config, "forced_bos_token_id", None), getattr(config, "decoder_start_token_id", None))
    found = next((codes[number] for number in first if number in codes), "")
    return found or _told(tokenizer, "tgt_lang", tokens)


def _told(tokenizer: Any, name: str, tokens: Mapping[str, str]) -> str:
    """A language that tokenizer_config.json names: transformers itself takes one where it names none."""
    code = tokenizer.init_kwargs.get(name)
    return code if code in tokens else ""


def _named(codes: list[str]) -> str:
    return ", ".join(codes[:MAX_NAMED]) + (", …" if len(codes) > MAX_NAMED else "")

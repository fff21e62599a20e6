"""How a checkpoint wants its texts to be written: generation_config.json, or the older keys of config.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import transformers

from app.core.errors import InvalidSettings
from app.core.sequences import SamplingParams

ALWAYS = (
    "num_beams", "early_stopping", "length_penalty", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids",
    "suppress_tokens", "forced_bos_token_id", "forced_eos_token_id",
)  # fmt: skip
SAMPLED = ("temperature", "top_k", "top_p", "min_p")
"""Of checkpoints that draw their tokens; of others, transformers ignores them."""
LEFT_OUT = (
    "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "begin_suppress_tokens", "sequence_bias",
    "exponential_decay_length_penalty", "typical_p", "epsilon_cutoff", "eta_cutoff", "diversity_penalty", "num_beam_groups",
    "penalty_alpha", "guidance_scale", "renormalize_logits",
)  # fmt: skip
"""What transformers would do, and the service does not."""
DEFAULTS = transformers.GenerationConfig()
OWN_DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(SamplingParams)}


def decoder_fields(model: Any, tokenizer: Any = None) -> tuple[dict[str, Any], list[str]]:
    """What the manifest says of a decoder beyond its weights, and notes for the person at the terminal and the card.

    Args:
        model: of transformers, whose generation_config is there already: the file's, or one made of config.json's older keys.
        tokenizer: of transformers; None: one without ways of its own.

    Raises:
        InvalidSettings: it has an encoder, and does not say what a text starts with.
    """
    config, has_encoder = model.generation_config, model.config.is_encoder_decoder
    start = _first_of(config.decoder_start_token_id, getattr(model.config, "decoder_start_token_id", None), config.bos_token_id)
    if start is None and has_encoder:
        raise InvalidSettings("the checkpoint does not say what a text starts with (decoder_start_token_id in config.json)")
    eos = config.eos_token_id if config.eos_token_id is not None else getattr(model.config, "eos_token_id", None)
    eos_ids = tuple(eos) if isinstance(eos, list) else (() if eos is None else (int(eos),))
    decoder = {
        **({"start_token_id": int(start)} if has_encoder and start is not None else {"has_encoder": False}),
        "eos_token_ids": eos_ids,
        "pad_token_id": _first_of(config.pad_token_id, model.config.pad_token_id),
        "generation": dict(_generation(config, eos_ids, has_encoder)),
    }
    if getattr(tokenizer, "clean_up_tokenization_spaces", False):
        decoder["clean_up_tokenization_spaces"] = True
    return decoder, list(_notes(config, eos_ids))


def _generation(config: Any, eos_ids: Sequence[int], has_encoder: bool) -> Iterator[tuple[str, Any]]:
    """By the names of `SamplingParams`, what is otherwise than there."""
    yield from _lengths(config, has_encoder)
    if config.do_sample:
        yield "do_sample", True
    for name in (*ALWAYS, *(SAMPLED if config.do_sample else ())):
        value = getattr(config, name, None)
        if name == "bad_words_ids" and value:  # as transformers: the end of a text is no bad word
            value = [word for word in value if list(word) not in [[eos] for eos in eos_ids]]
        if value is not None and value != OWN_DEFAULTS[name] and value != []:
            yield name, value[0] if name.startswith("forced") and isinstance(value, list) else value


def _lengths(config: Any, has_encoder: bool) -> Iterator[tuple[str, int]]:
    """In new tokens: `max_length` and `min_length` count the start token, and without an encoder the text that is continued, so
    that they say nothing of what is new. The 20 that transformers writes where nobody says
    anything is nobody's wish, and left to the service."""
    if config.max_new_tokens is not None:
        yield "max_new_tokens", int(config.max_new_tokens)
    elif has_encoder and config.max_length is not None and config.max_length != DEFAULTS.max_length:
        yield "max_new_tokens", max(1, int(config.max_length) - 1)
    if config.min_new_tokens:
        yield "min_new_tokens", int(config.min_new_tokens)
    elif has_encoder and config.min_length and config.min_length > 1:
        yield "min_new_tokens", int(config.min_length) - 1


PROCESSED = (
    "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "forced_bos_token_id",
    "forced_eos_token_id", "min_length", "min_new_tokens", *LEFT_OUT,
)  # fmt: skip
"""What transformers does to scores before the best token is taken, also where nothing is drawn."""


def is_plain(config: Any) -> bool:
    """Whether transformers writes the token with the largest logit at every step, as this generation_config has it."""
    return all(getattr(config, name, None) in (None, getattr(DEFAULTS, name, None), []) for name in PROCESSED)


def _notes(config: Any, eos_ids: Sequence[int]) -> Iterator[str]:
    left_out = [name for name in LEFT_OUT if getattr(config, name, None) != getattr(DEFAULTS, name, None)]
    if left_out:
        yield f"its generation_config asks for {', '.join(left_out)}, which the service does not do"
    if not eos_ids:
        yield "it names no end-of-text token (eos_token_id): every text is as long as it may be"


def _first_of(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)

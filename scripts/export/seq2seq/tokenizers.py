"""Tokenizers of models that write: those that transformers has no fast form of are made to a tokenizer.json here, and all are
proven to encode, and to decode, as transformers does."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import transformers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as _Tokenizer
from transformers.convert_slow_tokenizer import SpmConverter

from app.core.errors import InvalidSettings
from app.tasks.tokenizer import Tokenizer
from scripts.export.tokenizer_definition import PROVEN_TOKENS, TEXTS, definition_of
from scripts.training.pretrained import BaseModel, fast_tokenizer

UNIGRAM, BPE = 1, 2
NORMAL, USER_DEFINED = 1, 4
"""Kinds of models and of pieces in a sentencepiece file."""
BLANK, END = "▁", "</s>"
MANY = 1_000
NUM_DRAWN, DRAWN_TOKENS = 40, 12
"""Sequences of drawn tokens that are decoded to compare, beside the texts."""
WITH_LANGUAGES = ("NllbTokenizer", "MBartTokenizer", "MBart50Tokenizer")
"""Fast tokenizers that put the source's language into every row, which the task does by itself."""


@dataclass(frozen=True)
class WriterTokenizer:
    """What a version keeps of its tokenizers, and transformers' own."""

    original: Any
    definition: str
    """JSON text of the source's tokenizer."""
    target: str = ""
    """Of what is written, where it is another."""
    num_known: int = 0
    """Ids from here on are pieces that the vocabulary lacks, which the model reads as unknown; 0: there are none."""


def writer_tokenizer(source: BaseModel) -> WriterTokenizer:
    """
    Raises:
        InvalidSettings: it cannot be served without transformers, and why.
    """
    original = _original(source)
    name = type(original).__name__.removesuffix("Fast")
    if name == "MarianTokenizer":
        return _marian(original, source.location)
    if name == "M2M100Tokenizer":
        return _m2m100(original, source.location)
    if name == "ByT5Tokenizer":
        return _byt5(original, source.location)
    fast = original if original.is_fast else fast_tokenizer(source)
    if name in WITH_LANGUAGES:
        return _without_language(fast, source.location)
    definition = definition_of(fast, source.location)
    _prove_decoding(Tokenizer(definition, PROVEN_TOKENS), fast, source.location, len(fast))
    return WriterTokenizer(fast, definition)


def _original(source: BaseModel) -> Any:
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Marian's recommends a package that it does not use
        try:
            return transformers.AutoTokenizer.from_pretrained(source.location, trust_remote_code=False)
        except Exception:  # whatever a broken file raises: the door of all other models says it in words
            return fast_tokenizer(source)


# --- families without a fast form


def _marian(original: Any, name: str) -> WriterTokenizer:
    """Source and target have each a sentencepiece model; their pieces' ids are in a vocabulary of both, or in two."""
    source_file, target_file = original.spm_files
    target_ids = original.target_encoder if original.separate_vocabs else original.encoder
    specials = [original.pad_token, original.eos_token, original.unk_token]
    definition = _from_sentencepiece(source_file, original.encoder, specials, is_read=True)
    target = _from_sentencepiece(target_file, target_ids, specials, is_read=False)
    num_known = _num_ids(original.encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _prove_encoding(Tokenizer(definition, PROVEN_TOKENS), original, name, num_known)
    _prove_decoding(Tokenizer(target, PROVEN_TOKENS), original, name, _num_ids(target_ids))
    return WriterTokenizer(original, definition, target, num_known)


def _m2m100(original: Any, name: str) -> WriterTokenizer:
    """One sentencepiece model, whose pieces' ids are in a file of their own; those of languages come behind."""
    ids = {**original.encoder, **original.lang_token_to_id}
    specials = [original.bos_token, original.pad_token, original.eos_token, original.unk_token, *original.lang_token_to_id]
    definition = _from_sentencepiece(original.spm_file, ids, specials, is_read=False)
    _prove_encoding(Tokenizer(definition, PROVEN_TOKENS), original, name, _num_ids(ids), original.cur_lang_id)
    # the words for languages are special here, and to transformers only in some checkpoints: none of them is a text
    _prove_decoding(Tokenizer(definition, PROVEN_TOKENS), original, name, _num_ids(original.encoder))
    return WriterTokenizer(original, definition, num_known=_num_ids(ids))


def _byt5(original: Any, name: str) -> WriterTokenizer:
    """A token for every byte, behind three special ones."""
    letters = _letters_of_bytes()
    specials = [original.pad_token, original.eos_token, original.unk_token]
    extra = sorted(set(original.added_tokens_decoder) - set(range(len(specials))))
    ids = {token: number for number, token in enumerate(specials)}
    ids |= {letters[byte]: byte + len(specials) for byte in range(256)}
    tokenizer = _Tokenizer(models.BPE(ids, [], unk_token=original.unk_token))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*specials, *(str(original.added_tokens_decoder[number]) for number in extra)])
    tokenizer.post_processor = _end(original.eos_token, original.eos_token_id)
    definition = str(tokenizer.to_str())
    served = Tokenizer(definition, PROVEN_TOKENS)
    _prove_encoding(served, original, name, len(original))
    for text in TEXTS:  # drawn bytes are no text: transformers leaves out what is none
        ids_of_text = original(text).input_ids
        _compare(served.decode(ids_of_text, True), original.decode(ids_of_text, skip_special_tokens=True), name)
    return WriterTokenizer(original, definition)


def _letters_of_bytes() -> list[str]:
    """The letter that stands for each byte in byte-level vocabularies, as GPT-2 has them."""
    readable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256))
    return [chr(byte) if byte in readable else chr(256 + next(others)) for byte in range(256)]


def _from_sentencepiece(file: str, ids: Mapping[str, int], specials: Sequence[str], is_read: bool) -> str:
    """JSON text of a tokenizer with the pieces of a sentencepiece file under other ids.

    Args:
        file: the sentencepiece model.
        ids: the vocabulary, in which pieces may be missing, and others stand; missing ones get the ids behind it.
        specials: special tokens; the end of text is put behind each.
        is_read: texts are encoded, and nothing decoded: what is not in the file is spelled so that no text holds it.
    """
    converter: Any = SpmConverter(SimpleNamespace(vocab_file=file))
    proto = converter.proto
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type in (NORMAL, USER_DEFINED)}
    num_known = _num_ids(ids)
    numbers = {**ids, **{piece: num_known + place for place, piece in enumerate(piece for piece in scores if piece not in ids)}}
    unknown = next(special for special in specials if "unk" in special)
    if proto.trainer_spec.model_type == UNIGRAM:
        tokenizer = _Tokenizer(_unigram(numbers, scores, {*specials}, ids[unknown], is_read))
    elif proto.trainer_spec.model_type == BPE:
        scored = [(piece.piece, piece.score) for piece in proto.pieces]
        _, merges = converter.SpmExtractor(file).extract(scored)
        tokenizer = _Tokenizer(models.BPE(numbers, merges, unk_token=unknown, fuse_unk=True))
    else:
        raise InvalidSettings(f"{Path(file).name} is a sentencepiece model of words or characters, which cannot be served")
    tokenizer.normalizer = converter.normalizer(proto)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.Fuse(), decoders.Replace(Regex(r"^\s+|\s+$"), "")]  # as Python's strip()
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in specials])
    tokenizer.post_processor = _end(END, ids[END])
    return str(tokenizer.to_str())


def _unigram(
    numbers: Mapping[str, int], scores: Mapping[str, float], specials: set[str], unknown_id: int, is_read: bool
) -> Any:
    lowest = min(scores.values())
    rows = [(f" {number}", 0.0) for number in range(max(numbers.values()) + 1)]  # no text holds a blank once it is cut
    for piece, number in numbers.items():
        if piece in scores:
            rows[number] = (piece, scores[piece])
        elif not is_read or piece in specials or piece.startswith(">>"):
            rows[number] = (piece, lowest)
    return models.Unigram(rows, unk_id=unknown_id)


def _end(token: str, number: int) -> Any:
    return processors.TemplateProcessing(single=f"$A {token}", pair=f"$A $B {token}", special_tokens=[(token, number)])


def _num_ids(ids: Mapping[str, int]) -> int:
    return max(ids.values()) + 1


def _without_language(fast: Any, name: str) -> WriterTokenizer:
    """A fast tokenizer that puts only the end of text behind a text."""
    tokenizer = json.loads(fast.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    tokenizer["post_processor"] = json.loads(_end(fast.eos_token, fast.eos_token_id).__getstate__())
    definition = json.dumps(tokenizer, ensure_ascii=False)
    served = Tokenizer(definition, PROVEN_TOKENS)
    language = fast.convert_tokens_to_ids(fast.src_lang)
    _prove_encoding(served, fast, name, len(fast), language)
    _prove_decoding(served, fast, name, len(fast))
    return WriterTokenizer(fast, definition)


# --- the proof


def _prove_encoding(served: Tokenizer, original: Any, name: str, num_known: int, language: int | None = None) -> None:
    """
    Args:
        num_known: larger ids of the served one are unknown.
        language: what transformers' puts into each row and the served one does not.

    Raises:
        InvalidSettings: a text is encoded otherwise.
    """
    for text in TEXTS:
        expected = [number for number in original(text).input_ids if number != language]
        (windows,) = served.with_windows(MANY, 0).windows([text])
        ids = [number if number < num_known else original.unk_token_id for number in windows[0].input_ids]
        if ids != expected:
            raise InvalidSettings(
                f"the tokenizer of {name} cannot be served: without transformers it encodes {text[:60]!r} otherwise"
            )


def _prove_decoding(served: Tokenizer, original: Any, name: str, num_ids: int) -> None:
    """
    Raises:
        InvalidSettings: some tokens become another text.
    """
    generator = random.Random(0)
    drawn = [generator.choices(range(num_ids), k=DRAWN_TOKENS) for _ in range(NUM_DRAWN)]
    for ids in [*drawn, *([number for number in original(text).input_ids if number < num_ids] for text in TEXTS)]:
        expected = original.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        _compare(served.decode(ids, True), expected, name)


def _compare(text: str, expected: str, name: str) -> None:
    if text != expected:
        raise InvalidSettings(
            f"the tokenizer of {name} cannot be served: without transformers it decodes {expected[:60]!r} otherwise"
        )

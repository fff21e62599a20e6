"""Tokenizers that transformers has no fast form of encode and decode without it as with it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer as _Tokenizer

from app.core.errors import InvalidSettings
from app.tasks.tokenizer import Tokenizer
from scripts.export.eval_data import SENTENCES
from scripts.export.seq2seq import tokenizers
from scripts.export.seq2seq.tokenizers import WriterTokenizer, writer_tokenizer
from scripts.training.pretrained import BaseModel
from tests.support.tiny_translators import LANGUAGES, m2m100_tokenizer, marian_tokenizer
from tests.support.tiny_writer import unigram_json


def converted(folder: Path, model_type: str) -> WriterTokenizer:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    return writer_tokenizer(BaseModel(str(folder), folder.name))


def ids_of(tokenizer: WriterTokenizer, text: str) -> list[int]:
    """As the model reads them."""
    ((window, *_),) = Tokenizer(tokenizer.definition, 512).windows([text])
    unknown = tokenizer.original.unk_token_id
    return [number if number < (tokenizer.num_known or number + 1) else unknown for number in window.input_ids]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_marian_is_read_by_its_source_pieces_and_written_by_its_target_pieces(kind: str, tmp_path: Path) -> None:
    original = marian_tokenizer(tmp_path, kind, LANGUAGES)
    tokenizer = converted(tmp_path, "marian")
    assert tokenizer.num_known == len(original.encoder)
    source, target = (Tokenizer(text, 512) for text in (tokenizer.definition, tokenizer.target))
    for text in SENTENCES:
        assert ids_of(tokenizer, text) == original(text).input_ids
        written = original(text_target=text).input_ids
        assert target.decode(written, skip_special_tokens=True) == original.decode(written, skip_special_tokens=True)
    assert source.token_id(">>deu<<") == original.encoder[">>deu<<"]
    assert any(max(window[0].input_ids) >= tokenizer.num_known for window in source.windows(list(SENTENCES)))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_m2m100_has_ids_in_the_order_of_its_vocabulary_and_its_languages_behind(kind: str, tmp_path: Path) -> None:
    original = m2m100_tokenizer(tmp_path, kind)
    tokenizer = converted(tmp_path, "m2m_100")
    served = Tokenizer(tokenizer.definition, 512)
    assert tokenizer.target == ""
    assert served.token_id("__de__") == original.get_lang_id("de")
    for text in SENTENCES:
        _, *expected = original(text).input_ids
        assert ids_of(tokenizer, text) == expected, "the language is put there by the task"
        assert served.decode(expected, skip_special_tokens=True) == original.decode(expected, skip_special_tokens=True)


def test_byt5_has_a_token_for_every_byte(tmp_path: Path) -> None:
    original = transformers.ByT5Tokenizer()
    original.save_pretrained(tmp_path)
    tokenizer = converted(tmp_path, "t5")
    served = Tokenizer(tokenizer.definition, 512)
    for text in SENTENCES:
        ids = original(text).input_ids
        assert ids_of(tokenizer, text) == ids
        assert served.decode(ids, skip_special_tokens=True) == text
    assert served.token_id("<extra_id_0>") == original.convert_tokens_to_ids("<extra_id_0>")


@pytest.mark.parametrize(
    ("name", "codes", "model_type"),
    [
        ("NllbTokenizerFast", ["eng_Latn", "fra_Latn"], "m2m_100"),
        ("MBartTokenizerFast", ["en_XX", "ro_RO"], "mbart"),
        ("MBart50TokenizerFast", ["en_XX", "ro_RO"], "mbart"),
    ],
)
def test_a_fast_tokenizer_leaves_the_language_to_the_task(name: str, codes: list[str], model_type: str, tmp_path: Path) -> None:
    kind = getattr(transformers, name)
    backend = _Tokenizer.from_str(unigram_json())
    original = kind(tokenizer_object=backend, src_lang=codes[0], unk_token="<unk>", additional_special_tokens=codes)
    original.save_pretrained(tmp_path)
    tokenizer = converted(tmp_path, model_type)
    served = Tokenizer(tokenizer.definition, 512)
    assert isinstance(tokenizer.original, kind)
    expected = original("the film was good").input_ids
    assert original.convert_tokens_to_ids(codes[0]) in expected
    assert ids_of(tokenizer, "the film was good") == [n for n in expected if n != original.convert_tokens_to_ids(codes[0])]
    assert served.token_id(codes[1]) == original.convert_tokens_to_ids(codes[1])


def test_a_tokenizer_that_does_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marian_tokenizer(tmp_path)
    right = tokenizers._unigram

    def wrong(numbers: Any, scores: Any, *rest: Any) -> Any:
        return right(numbers, {piece: -score for piece, score in scores.items()}, *rest)

    monkeypatch.setattr(tokenizers, "_unigram", wrong)
    with pytest.raises(InvalidSettings, match=r"cannot be served: without transformers it encodes .* otherwise"):
        converted(tmp_path, "marian")


def test_text_that_would_be_decoded_otherwise_is_refused() -> None:
    original = SimpleNamespace(decode=lambda ids, **_: "a b")
    with pytest.raises(InvalidSettings, match="it decodes 'a b' otherwise"):
        tokenizers._compare("a  b", original.decode([]), "x")

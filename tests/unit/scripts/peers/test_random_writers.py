"""Random writers are published as any other, and never end by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers

from app.core.artefact import open_artefact
from app.core.sequences import SamplingParams
from app.core.types import Row
from scripts.bench.generation import open_writer
from scripts.peers.random_writers import SHAPES, UNUSED, WriterShape, make_writer, words_of


def tiny(vocab_size: int) -> Any:
    config = transformers.T5Config(
        vocab_size=vocab_size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


TINY = WriterShape(40, 64, {0: "<pad>", 1: "</s>", 2: "<unk>"}, tiny)


def test_a_vocabulary_has_its_special_tokens_and_one_word_that_nobody_says() -> None:
    for shape in SHAPES.values():
        words = words_of(shape)
        assert len(set(words)) == shape.vocab_size
        assert all(words[number] == word for number, word in shape.specials.items())
        assert UNUSED in words[-2:]
        assert words[11] == "w11"


def test_a_writer_is_made_once_and_writes_as_much_as_is_asked_for(tmp_path: Path) -> None:
    checkpoint = make_writer("tiny", TINY, tmp_path / "tiny")
    version = tmp_path / "tiny" / "models" / "tiny" / "1"
    before = version.stat().st_mtime_ns
    assert make_writer("tiny", TINY, tmp_path / "tiny") == checkpoint
    assert version.stat().st_mtime_ns == before
    manifest = open_artefact(version).manifest
    assert manifest.decoder is not None
    assert manifest.decoder.eos_token_ids == ()
    engine = open_writer(version, 2, precision="fp32")
    sampling = SamplingParams(12, decoder_input_ids=(manifest.decoder.start_token_id,))
    written = engine.generate([Row([9, 10, 1], [0] * 3), Row([11, 1], [0] * 2)], sampling)
    assert [len(output["token_ids"]) for output in written] == [12, 12]
    (golden,) = json.loads((version / "golden.json").read_text(encoding="utf-8"))
    assert len(golden["answer"]["rows"][0]["token_ids"]) == 20

"""What a checkpoint says of how it writes, in the names that the service has for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers

from app.core.errors import InvalidSettings
from scripts.export.seq2seq.generation import decoder_fields
from tests.support.tiny_writer import bart_model


def fields_of(**generation: Any) -> tuple[dict[str, Any], list[str]]:
    config = transformers.GenerationConfig(decoder_start_token_id=2, eos_token_id=2, pad_token_id=1, **generation)
    return decoder_fields(SimpleNamespace(generation_config=config, config=transformers.BartConfig()))


def test_lengths_become_new_tokens_and_what_transformers_does_unasked_stays_out() -> None:
    assert fields_of()[0] == {"start_token_id": 2, "eos_token_ids": (2,), "pad_token_id": 1, "generation": {}}
    generation = fields_of(max_length=142, min_length=56)[0]["generation"]
    assert generation == {"max_new_tokens": 141, "min_new_tokens": 55}
    generation = fields_of(max_length=142, max_new_tokens=30, min_length=56, min_new_tokens=5)[0]["generation"]
    assert generation == {"max_new_tokens": 30, "min_new_tokens": 5}


def test_the_config_of_a_summarizer_is_kept_whole() -> None:
    generation, notes = fields_of(
        num_beams=4,
        length_penalty=2.0,
        no_repeat_ngram_size=3,
        early_stopping=True,
        forced_bos_token_id=0,
        forced_eos_token_id=2,
    )
    assert generation["generation"] == {
        "num_beams": 4, "early_stopping": True, "length_penalty": 2.0, "no_repeat_ngram_size": 3, "forced_bos_token_id": 0,
        "forced_eos_token_id": 2,
    }  # fmt: skip
    assert notes == []


def test_what_is_only_for_drawing_counts_only_where_tokens_are_drawn() -> None:
    assert fields_of(temperature=0.7, top_p=0.9)[0]["generation"] == {}
    drawn = fields_of(do_sample=True, temperature=0.7)[0]["generation"]
    assert drawn == {"do_sample": True, "temperature": 0.7, "top_k": 50}


def test_bad_words_lack_the_end_of_a_text() -> None:
    assert fields_of(bad_words_ids=[[2], [7], [2, 7]])[0]["generation"] == {"bad_words_ids": [[7], [2, 7]]}
    assert fields_of(bad_words_ids=[[2]])[0]["generation"] == {}


def test_what_the_service_does_not_do_is_said() -> None:
    (note,) = fields_of(encoder_no_repeat_ngram_size=3, begin_suppress_tokens=[5])[1]
    assert note == (
        "its generation_config asks for encoder_no_repeat_ngram_size, begin_suppress_tokens, which the service does not do"
    )


def test_older_checkpoints_say_it_in_their_config(tmp_path: Path) -> None:
    model = bart_model(40)
    model.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    config = transformers.BartConfig.from_pretrained(tmp_path)
    for name, value in {"num_beams": 3, "max_length": 62, "forced_eos_token_id": 1}.items():
        setattr(config, name, value)
    text = config.to_json_string(use_diff=False)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    loaded = transformers.BartForConditionalGeneration.from_pretrained(tmp_path)
    decoder, _ = decoder_fields(loaded)
    assert decoder["generation"] == {"max_new_tokens": 61, "num_beams": 3, "forced_eos_token_id": 1}
    assert decoder["start_token_id"] == 1


def test_a_checkpoint_that_does_not_say_what_a_text_starts_with_is_refused_where_it_has_an_encoder() -> None:
    def silent(is_encoder_decoder: bool) -> SimpleNamespace:
        config = transformers.PretrainedConfig(is_encoder_decoder=is_encoder_decoder)
        return SimpleNamespace(generation_config=transformers.GenerationConfig(), config=config)

    with pytest.raises(InvalidSettings, match="does not say what a text starts with"):
        decoder_fields(silent(is_encoder_decoder=True))
    decoder, _ = decoder_fields(silent(is_encoder_decoder=False))
    assert decoder["has_encoder"] is False
    assert "start_token_id" not in decoder

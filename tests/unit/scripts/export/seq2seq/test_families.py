"""The families of models that write: what is read of each, and what is refused."""

from __future__ import annotations

import pytest
import transformers

from app.core.errors import InvalidSettings
from scripts.export.seq2seq.families import NO_TABLE, check_config, family_of, num_positions
from tests.support.tiny_writer import FAMILIES


def test_the_table_of_positions_is_the_limit_and_t5_has_none() -> None:
    assert num_positions(family_of(model := FAMILIES["bart"](40)).weights(model)) == 48
    assert num_positions(family_of(model := FAMILIES["t5"](40)).weights(model)) == NO_TABLE


def test_other_families_are_refused_in_a_sentence() -> None:
    with pytest.raises(InvalidSettings, match=r"of models that write, those of t5, .* can be published, not prophetnet"):
        check_config(transformers.ProphetNetConfig())
    gpt = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.BertConfig(), transformers.GPT2Config(add_cross_attention=True)
    )
    with pytest.raises(InvalidSettings, match="only those with a decoder of BERT, not gpt2"):
        check_config(gpt)

"""The families of models that write: what is read of each, and what is refused."""

from __future__ import annotations

import transformers

from scripts.export.seq2seq.families import NO_TABLE, family_of, num_positions, refusal
from tests.support.tiny_writer import FAMILIES


def test_the_table_of_positions_is_the_limit_and_t5_has_none() -> None:
    assert num_positions(family_of(model := FAMILIES["bart"](40)).weights(model)) == 48
    assert num_positions(family_of(model := FAMILIES["t5"](40)).weights(model)) == NO_TABLE


def test_other_families_are_refused_in_a_sentence() -> None:
    assert refusal(transformers.T5Config()) == ""
    assert refusal(transformers.ProphetNetConfig()) == (
        "is a model of prophetnet; of models that write, those of t5, mt5, umt5, bart, mbart, pegasus, marian, m2m_100,"
        " encoder-decoder can be published"
    )
    bert = transformers.BertConfig()
    gpt = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        bert, transformers.GPT2Config(add_cross_attention=True)
    )
    assert refusal(gpt) == "has a decoder of gpt2; of models made of two, those with a decoder of BERT can be published"
    relative = transformers.BertConfig(position_embedding_type="relative_key", is_decoder=True, add_cross_attention=True)
    pair = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(bert, relative)
    assert refusal(pair) == "has a BERT decoder with relative positions, which cannot be published"

"""The families of encoder-decoder models: where each keeps the weights of its decoder, and what it computes with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scripts.export.seq2seq.arrays import activation_of, array_of, linear_of, norm_of, stacked
from scripts.export.seq2seq.step_graph import (
    Activation,
    CrossAttention,
    DecoderLayer,
    DecoderWeights,
    FeedForward,
    Linear,
    Norm,
    Weights,
)

NO_TABLE = 2048
"""Tokens of the longest sequence of a decoder that numbers no positions: it has no limit, but somebody pays for its cache."""


@dataclass(frozen=True, slots=True)
class Family:
    """How to read the decoder of a kind of model."""

    weights: Callable[[Any], DecoderWeights]
    """From a transformers model to what the step's graph is built from."""
    cross_projections: Callable[[Any], Sequence[tuple[Any, Any]]]
    """The modules that make keys and values of the encoder's hidden vectors, of each layer."""


def family_of(model: Any) -> Family:
    """Of a model that is not refused."""
    return FAMILIES[model.config.model_type]


def refusal(config: Any) -> str:
    """Why models of this config cannot be published, as what follows the checkpoint's name; empty: they can."""
    kind = config.model_type
    if kind not in FAMILIES:
        return f"is a model of {kind}; of models that write, those of {', '.join(FAMILIES)} can be published"
    if kind != "encoder-decoder":
        return ""
    if config.decoder.model_type != "bert":
        own = config.decoder.model_type
        return f"has a decoder of {own}; of models made of two, those with a decoder of BERT can be published"
    if getattr(config.decoder, "position_embedding_type", "absolute") != "absolute":
        return "has a BERT decoder with relative positions, which cannot be published"
    return ""


def num_positions(weights: DecoderWeights) -> int:
    """Tokens of the longest sequence that the decoder writes."""
    rotation = weights.layers[0].rotation
    table = weights.positions if rotation is None else rotation.cos
    return NO_TABLE if table is None else len(table)


# --- BART and its like: one layout of modules, five ways to use it


def _bart_weights(model: Any) -> DecoderWeights:
    decoder, config = model.model.decoder, model.config
    heads = config.decoder_attention_heads
    embedding = array_of(decoder.embed_tokens.weight)
    is_tied = model.lm_head.weight.data_ptr() == decoder.embed_tokens.weight.data_ptr()
    bias = getattr(model, "final_logits_bias", None)
    activation = activation_of(config.activation_function)
    return DecoderWeights(
        num_heads=heads,
        head_size=config.d_model // heads,
        embedding=embedding,
        embedding_scale=_embedding_scale(decoder),
        positions=_bart_positions(decoder.embed_positions),
        embedding_norm=_optional_norm(decoder, "layernorm_embedding"),
        layers=[_bart_layer(layer, activation) for layer in decoder.layers],
        is_pre_norm=config.model_type in ("mbart", "pegasus", "m2m_100"),
        final_norm=_optional_norm(decoder, "layer_norm"),
        head=Linear(
            embedding if is_tied else array_of(model.lm_head.weight),
            None if bias is None or not bias.any() else array_of(bias).reshape(-1),
        ),
    )


def _bart_layer(layer: Any, activation: Activation) -> DecoderLayer:
    own, cross = layer.self_attn, layer.encoder_attn
    return DecoderLayer(
        self_qkv=stacked(own.q_proj, own.k_proj, own.v_proj),
        self_out=linear_of(own.out_proj),
        self_norm=norm_of(layer.self_attn_layer_norm),
        cross=CrossAttention(linear_of(cross.q_proj), linear_of(cross.out_proj), norm_of(layer.encoder_attn_layer_norm)),
        feed_forward=FeedForward(linear_of(layer.fc1), linear_of(layer.fc2), activation),
        feed_forward_norm=norm_of(layer.final_layer_norm),
    )


def _bart_positions(table: Any) -> Weights:
    """Without the rows before that of the first token."""
    if hasattr(table, "weights"):  # M2M100: numbered from the padding id + 1, with two more rows than positions
        return array_of(table.weights)[table.padding_idx + 1 :]
    return array_of(table.weight)[getattr(table, "offset", 0) :]


def _embedding_scale(decoder: Any) -> float:
    for module in (decoder.embed_tokens, decoder):
        scale = getattr(module, "embed_scale", None)
        if scale is not None:
            return float(scale)
    return 1.0


def _bart_cross(model: Any) -> list[tuple[Any, Any]]:
    return [(layer.encoder_attn.k_proj, layer.encoder_attn.v_proj) for layer in model.model.decoder.layers]


# --- T5 and its like


def _t5_weights(model: Any) -> DecoderWeights:
    config, decoder = model.config, model.decoder
    embedding = array_of(decoder.embed_tokens.weight)
    is_tied = model.lm_head.weight.data_ptr() == decoder.embed_tokens.weight.data_ptr()
    layers: list[DecoderLayer] = []
    for block in decoder.block:
        bias = _distance_bias(block.layer[0].SelfAttention, config)
        layers.append(_t5_layer(block.layer, config, layers[0].distance_bias if bias is None else bias))
    return DecoderWeights(
        num_heads=config.num_heads,
        head_size=config.d_kv,
        embedding=embedding,
        layers=layers,
        is_pre_norm=True,
        final_norm=norm_of(decoder.final_layer_norm),
        attention_scale=1.0,
        head=Linear(embedding if is_tied else array_of(model.lm_head.weight)),
        head_scale=config.d_model**-0.5 if config.tie_word_embeddings else 1.0,
    )


def _t5_layer(layer: Any, config: Any, distance_bias: Weights | None) -> DecoderLayer:
    own, cross, dense = layer[0].SelfAttention, layer[1].EncDecAttention, layer[2].DenseReluDense
    activation = activation_of(config.dense_act_fn)
    up = dense.wi_1 if config.is_gated_act else dense.wi
    gate = linear_of(dense.wi_0) if config.is_gated_act else None
    return DecoderLayer(
        self_qkv=stacked(own.q, own.k, own.v),
        self_out=linear_of(own.o),
        self_norm=norm_of(layer[0].layer_norm),
        cross=CrossAttention(linear_of(cross.q), linear_of(cross.o), norm_of(layer[1].layer_norm)),
        feed_forward=FeedForward(linear_of(up), linear_of(dense.wo), activation, gate),
        feed_forward_norm=norm_of(layer[2].layer_norm),
        distance_bias=distance_bias,
    )


def _distance_bias(attention: Any, config: Any) -> Weights | None:
    """(distances, heads); None: the layer uses the first one's."""
    if not getattr(attention, "has_relative_attention_bias", False):
        return None
    farthest = config.relative_attention_max_distance  # from here on, all lie in the last bucket
    before = -torch.arange(farthest + 1)[None]
    kind = type(attention)
    if config.model_type == "umt5":
        buckets = attention._relative_position_bucket(before)
    else:
        buckets = kind._relative_position_bucket(before, False, config.relative_attention_num_buckets, farthest)
    return array_of(attention.relative_attention_bias.weight[buckets[0]])


def _t5_cross(model: Any) -> list[tuple[Any, Any]]:
    return [(block.layer[1].EncDecAttention.k, block.layer[1].EncDecAttention.v) for block in model.decoder.block]


# --- BERT as decoder, behind any encoder


def _bert_weights(model: Any) -> DecoderWeights:
    decoder = model.decoder
    embeddings, head = decoder.bert.embeddings, decoder.cls.predictions
    embedding = array_of(embeddings.word_embeddings.weight)
    is_tied = head.decoder.weight.data_ptr() == embeddings.word_embeddings.weight.data_ptr()
    config = decoder.config
    return DecoderWeights(
        num_heads=config.num_attention_heads,
        head_size=config.hidden_size // config.num_attention_heads,
        embedding=embedding,
        # what is written is all of the first token type
        positions=array_of(embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]),
        embedding_norm=norm_of(embeddings.LayerNorm),
        layers=[_bert_layer(layer, activation_of(config.hidden_act)) for layer in decoder.bert.encoder.layer],
        is_pre_norm=False,
        head=Linear(embedding if is_tied else array_of(head.decoder.weight), array_of(head.decoder.bias)),
        head_transform=(
            linear_of(head.transform.dense),
            activation_of(config.hidden_act),
            norm_of(head.transform.LayerNorm),
        ),
    )


def _bert_layer(layer: Any, activation: Activation) -> DecoderLayer:
    own, cross = layer.attention, layer.crossattention
    return DecoderLayer(
        self_qkv=stacked(own.self.query, own.self.key, own.self.value),
        self_out=linear_of(own.output.dense),
        self_norm=norm_of(own.output.LayerNorm),
        cross=CrossAttention(linear_of(cross.self.query), linear_of(cross.output.dense), norm_of(cross.output.LayerNorm)),
        feed_forward=FeedForward(linear_of(layer.intermediate.dense), linear_of(layer.output.dense), activation),
        feed_forward_norm=norm_of(layer.output.LayerNorm),
    )


def _bert_cross(model: Any) -> list[tuple[Any, Any]]:
    return [(layer.crossattention.self.key, layer.crossattention.self.value) for layer in model.decoder.bert.encoder.layer]


BART, T5, BERT = Family(_bart_weights, _bart_cross), Family(_t5_weights, _t5_cross), Family(_bert_weights, _bert_cross)
FAMILIES: Mapping[str, Family] = {
    "t5": T5,
    "mt5": T5,
    "umt5": T5,
    "bart": BART,
    "mbart": BART,
    "pegasus": BART,
    "marian": BART,
    "m2m_100": BART,
    "encoder-decoder": BERT,
}
"""By transformers' `model_type`."""


def _optional_norm(module: Any, name: str) -> Norm | None:
    return norm_of(getattr(module, name)) if hasattr(module, name) else None

"""The families of encoder-decoder models: where each keeps the weights of its decoder, and what it computes with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from app.core.errors import InvalidSettings
from scripts.export.seq2seq.step_graph import Activation, DecoderLayer, DecoderWeights, FeedForward, Linear, Norm, Weights

ACTIVATIONS: Mapping[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""transformers' names to the graph's."""
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
    return NO_TABLE if weights.positions is None else len(weights.positions)


# --- BART and its like: one layout of modules, five ways to use it


def _bart_weights(model: Any) -> DecoderWeights:
    decoder, config = model.model.decoder, model.config
    heads = config.decoder_attention_heads
    embedding = _array(decoder.embed_tokens.weight)
    is_tied = model.lm_head.weight.data_ptr() == decoder.embed_tokens.weight.data_ptr()
    bias = getattr(model, "final_logits_bias", None)
    activation = _activation(config.activation_function)
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
            embedding if is_tied else _array(model.lm_head.weight),
            None if bias is None or not bias.any() else _array(bias).reshape(-1),
        ),
    )


def _bart_layer(layer: Any, activation: Activation) -> DecoderLayer:
    own, cross = layer.self_attn, layer.encoder_attn
    return DecoderLayer(
        self_qkv=_stacked(own.q_proj, own.k_proj, own.v_proj),
        self_out=_linear(own.out_proj),
        self_norm=_norm(layer.self_attn_layer_norm),
        cross_query=_linear(cross.q_proj),
        cross_out=_linear(cross.out_proj),
        cross_norm=_norm(layer.encoder_attn_layer_norm),
        feed_forward=FeedForward(_linear(layer.fc1), _linear(layer.fc2), activation),
        feed_forward_norm=_norm(layer.final_layer_norm),
    )


def _bart_positions(table: Any) -> Weights:
    """Without the rows before that of the first token."""
    if hasattr(table, "weights"):  # M2M100: numbered from the padding id + 1, with two more rows than positions
        return _array(table.weights)[table.padding_idx + 1 :]
    return _array(table.weight)[getattr(table, "offset", 0) :]


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
    embedding = _array(decoder.embed_tokens.weight)
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
        final_norm=_norm(decoder.final_layer_norm),
        attention_scale=1.0,
        head=Linear(embedding if is_tied else _array(model.lm_head.weight)),
        head_scale=config.d_model**-0.5 if config.tie_word_embeddings else 1.0,
    )


def _t5_layer(layer: Any, config: Any, distance_bias: Weights | None) -> DecoderLayer:
    own, cross, dense = layer[0].SelfAttention, layer[1].EncDecAttention, layer[2].DenseReluDense
    activation = _activation(config.dense_act_fn)
    up = dense.wi_1 if config.is_gated_act else dense.wi
    gate = _linear(dense.wi_0) if config.is_gated_act else None
    return DecoderLayer(
        self_qkv=_stacked(own.q, own.k, own.v),
        self_out=_linear(own.o),
        self_norm=_norm(layer[0].layer_norm),
        cross_query=_linear(cross.q),
        cross_out=_linear(cross.o),
        cross_norm=_norm(layer[1].layer_norm),
        feed_forward=FeedForward(_linear(up), _linear(dense.wo), activation, gate),
        feed_forward_norm=_norm(layer[2].layer_norm),
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
    return _array(attention.relative_attention_bias.weight[buckets[0]])


def _t5_cross(model: Any) -> list[tuple[Any, Any]]:
    return [(block.layer[1].EncDecAttention.k, block.layer[1].EncDecAttention.v) for block in model.decoder.block]


# --- BERT as decoder, behind any encoder


def _bert_weights(model: Any) -> DecoderWeights:
    decoder = model.decoder
    embeddings, head = decoder.bert.embeddings, decoder.cls.predictions
    embedding = _array(embeddings.word_embeddings.weight)
    is_tied = head.decoder.weight.data_ptr() == embeddings.word_embeddings.weight.data_ptr()
    config = decoder.config
    return DecoderWeights(
        num_heads=config.num_attention_heads,
        head_size=config.hidden_size // config.num_attention_heads,
        embedding=embedding,
        # what is written is all of the first token type
        positions=_array(embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]),
        embedding_norm=_norm(embeddings.LayerNorm),
        layers=[_bert_layer(layer, _activation(config.hidden_act)) for layer in decoder.bert.encoder.layer],
        is_pre_norm=False,
        head=Linear(embedding if is_tied else _array(head.decoder.weight), _array(head.decoder.bias)),
        head_transform=(
            _linear(head.transform.dense),
            _activation(config.hidden_act),
            _norm(head.transform.LayerNorm),
        ),
    )


def _bert_layer(layer: Any, activation: Activation) -> DecoderLayer:
    own, cross = layer.attention, layer.crossattention
    return DecoderLayer(
        self_qkv=_stacked(own.self.query, own.self.key, own.self.value),
        self_out=_linear(own.output.dense),
        self_norm=_norm(own.output.LayerNorm),
        cross_query=_linear(cross.self.query),
        cross_out=_linear(cross.output.dense),
        cross_norm=_norm(cross.output.LayerNorm),
        feed_forward=FeedForward(_linear(layer.intermediate.dense), _linear(layer.output.dense), activation),
        feed_forward_norm=_norm(layer.output.LayerNorm),
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


def _array(tensor: Any) -> Weights:
    array: Weights = tensor.detach().float().cpu().numpy()
    return array


def _linear(module: Any) -> Linear:
    return Linear(_array(module.weight), None if module.bias is None else _array(module.bias))


def _stacked(*modules: Any) -> Linear:
    parts = [_linear(module) for module in modules]
    biases = [part.bias for part in parts if part.bias is not None]
    return Linear(np.concatenate([part.weight for part in parts]), np.concatenate(biases) if biases else None)


def _norm(module: Any) -> Norm:
    bias = getattr(module, "bias", None)
    epsilon = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    return Norm(_array(module.weight), None if bias is None else _array(bias), float(epsilon))


def _optional_norm(module: Any, name: str) -> Norm | None:
    return _norm(getattr(module, name)) if hasattr(module, name) else None


def _activation(name: str) -> Activation:
    if name not in ACTIVATIONS:
        raise InvalidSettings(f"a decoder that activates by {name} cannot be published; {', '.join(ACTIVATIONS)} can")
    return ACTIVATIONS[name]

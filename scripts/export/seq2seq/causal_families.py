"""The families of models that continue a text: where each keeps its weights, and what it computes with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scripts.export.seq2seq.arrays import activation_of, array_of, linear_of, norm_of, stacked
from scripts.export.seq2seq.step_graph import (
    Activation,
    DecoderLayer,
    DecoderWeights,
    FeedForward,
    Linear,
    Norm,
    Rotation,
)

MAX_POSITIONS = 8192
"""Tokens of the longest sequence that a manifest knows."""
DEFAULT_CONTEXT = 2048
"""Tokens of a text and what continues it, where nobody says another: the cache has room for so many of every sequence."""
LANES = 8
"""Dimensions of half a head that are turned: a multiple of these, as ONNX Runtime wants it."""


@dataclass(frozen=True, slots=True)
class CausalFamily:
    """How to read a kind of model."""

    weights: Callable[[Any], DecoderWeights]
    """From a transformers model to what the step's graph is built from."""
    refusal: Callable[[Any], str] = lambda config: ""
    """Why models of a config cannot be published, as what follows the checkpoint's name; empty: they can."""


def causal_family_of(model: Any) -> CausalFamily:
    """Of a model that is not refused."""
    return CAUSAL_FAMILIES[model.config.model_type]


def causal_refusal(config: Any) -> str:
    """Why models of this config cannot be published, as what follows the checkpoint's name; empty: they can."""
    kind = config.model_type
    if kind not in CAUSAL_FAMILIES:
        return f"is a model of {kind}; of models that continue a text, those of {', '.join(CAUSAL_FAMILIES)} can be published"
    if getattr(config, "quantization_config", None) is not None:
        return "holds quantized weights; publish the checkpoint that they were made of"
    return CAUSAL_FAMILIES[kind].refusal(config) or _rotation_refusal(config)


def _rotation_refusal(config: Any) -> str:
    if config.model_type == "gpt2":
        return ""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    turned = int(size * (getattr(config, "partial_rotary_factor", None) or 1.0))
    if size % LANES or turned % (2 * LANES):
        return f"turns {turned} of {size} dimensions of a head; they should be multiples of {2 * LANES} and {LANES}"
    return ""


# --- GPT-2


def _gpt2_weights(model: Any) -> DecoderWeights:
    body, config = model.transformer, model.config
    embedding = array_of(body.wte.weight)
    return DecoderWeights(
        num_heads=config.n_head,
        head_size=config.n_embd // config.n_head,
        embedding=embedding,
        positions=array_of(body.wpe.weight),
        layers=[_gpt2_layer(block, activation_of(config.activation_function)) for block in body.h],
        is_pre_norm=True,
        final_norm=norm_of(body.ln_f),
        head=_head(model, body.wte, embedding),
    )


def _gpt2_layer(block: Any, activation: Activation) -> DecoderLayer:
    return DecoderLayer(
        self_qkv=_turned(block.attn.c_attn),
        self_out=_turned(block.attn.c_proj),
        self_norm=norm_of(block.ln_1),
        feed_forward=FeedForward(_turned(block.mlp.c_fc), _turned(block.mlp.c_proj), activation),
        feed_forward_norm=norm_of(block.ln_2),
    )


def _turned(module: Any) -> Linear:
    """Of a module that keeps its matrix as (inputs, outputs)."""
    return Linear(np.ascontiguousarray(array_of(module.weight).T), array_of(module.bias))


def _gpt2_refusal(config: Any) -> str:
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights or config.add_cross_attention:
        return "scales its attention in a way of its own, or has an encoder beside it, which cannot be published"
    return ""


# --- Llama and its like: one layout of modules, many ways to use it


def _llama_weights(model: Any) -> DecoderWeights:
    config, body = model.config, model.model
    embedding = array_of(body.embed_tokens.weight)
    rotations = {name: _rotation(module, config) for name in ("rotary_emb", "rotary_emb_local")
                 if (module := getattr(body, name, None)) is not None}  # fmt: skip
    layers = [_llama_layer(layer, config, rotations) for layer in body.layers]
    attention = body.layers[0].self_attn
    return DecoderWeights(
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_size=attention.head_dim,
        embedding=embedding,
        embedding_scale=_embedding_scale(model),
        layers=layers,
        is_pre_norm=True,
        final_norm=_norm(body.final_layernorm if config.model_type == "phi" else body.norm, config),
        attention_scale=float(attention.scaling),
        attention_cap=float(getattr(config, "attn_logit_softcapping", None) or 0.0),
        logit_cap=float(getattr(config, "final_logit_softcapping", None) or 0.0),
        head=_head(model, body.embed_tokens, embedding),
    )


def _llama_layer(layer: Any, config: Any, rotations: Mapping[str, Rotation]) -> DecoderLayer:
    attention, activation = layer.self_attn, _activation(config)
    window = _window(layer, config)
    is_local = bool(window) and "rotary_emb_local" in rotations
    is_parallel = config.model_type == "phi"
    has_four_norms = hasattr(layer, "pre_feedforward_layernorm")
    before_dense = None if is_parallel else layer.post_attention_layernorm
    return DecoderLayer(
        self_qkv=_query_key_value(attention),
        self_out=linear_of(attention.dense if is_parallel else attention.o_proj),
        self_norm=_norm(layer.input_layernorm, config),
        feed_forward=_feed_forward(layer.mlp, activation),
        feed_forward_norm=(
            _norm(layer.pre_feedforward_layernorm, config)
            if has_four_norms
            else None if before_dense is None else _norm(before_dense, config)
        ),
        result_norms=(
            (_norm(layer.post_attention_layernorm, config), _norm(layer.post_feedforward_layernorm, config))
            if has_four_norms
            else None
        ),
        head_norms=(
            (_norm(attention.q_norm, config), _norm(attention.k_norm, config)) if hasattr(attention, "q_norm") else None
        ),
        rotation=rotations["rotary_emb_local" if is_local else "rotary_emb"],
        window=window,
    )  # fmt: skip


def _query_key_value(attention: Any) -> Linear:
    if hasattr(attention, "qkv_proj"):
        return linear_of(attention.qkv_proj)
    return stacked(attention.q_proj, attention.k_proj, attention.v_proj)


def _feed_forward(dense: Any, activation: Activation) -> FeedForward:
    if hasattr(dense, "fc1"):
        return FeedForward(linear_of(dense.fc1), linear_of(dense.fc2), activation)
    if hasattr(dense, "gate_up_proj"):
        both = array_of(dense.gate_up_proj.weight)
        gate, up = (Linear(half) for half in np.split(both, 2))
        return FeedForward(up, linear_of(dense.down_proj), activation, gate)
    return FeedForward(linear_of(dense.up_proj), linear_of(dense.down_proj), activation, linear_of(dense.gate_proj))


def _activation(config: Any) -> Activation:
    name = getattr(config, "hidden_activation", None) or config.hidden_act
    # what Gemma's first checkpoints call gelu is computed as its approximation
    return activation_of("gelu_pytorch_tanh" if config.model_type == "gemma" and name == "gelu" else name)


def _window(layer: Any, config: Any) -> int:
    """Tokens that a layer attends to; 0: all."""
    own = getattr(layer.self_attn, "sliding_window", None)
    if own is None and config.model_type in ("mistral", "phi3"):
        own = config.sliding_window
    return int(own or 0)


def _norm(module: Any, config: Any) -> Norm:
    norm = norm_of(module)
    if config.model_type.startswith("gemma"):  # which keeps what its weight is more than 1
        return Norm(norm.weight + np.float32(1), norm.bias, norm.epsilon)
    return norm


def _embedding_scale(model: Any) -> float:
    scale = getattr(model.model.embed_tokens, "embed_scale", None)
    if scale is not None:
        return float(scale)
    return float(model.config.hidden_size**0.5) if model.config.model_type in ("gemma", "gemma2") else 1.0


@torch.no_grad()
def _rotation(module: Any, config: Any) -> Rotation:
    """Computed by the checkpoint's own module, whatever its scaling, up to where it would begin to scale otherwise."""
    positions = torch.arange(min(num_causal_positions(config), MAX_POSITIONS))[None]
    cos, sin = module(torch.zeros(1), positions)
    half = cos.shape[-1] // 2  # the second half repeats the first
    return Rotation(*(np.ascontiguousarray(array_of(table[0, :, :half])) for table in (cos, sin)))


def num_causal_positions(config: Any) -> int:
    """Tokens of the longest text that a model of this config reads and writes."""
    scaling = getattr(config, "rope_scaling", None) or {}
    limit = int(config.max_position_embeddings)
    if scaling.get("rope_type", scaling.get("type")) == "longrope":  # beyond it, all positions would be turned otherwise
        limit = min(limit, int(getattr(config, "original_max_position_embeddings", None) or limit))
    return limit


def with_soft_caps(model: Any) -> Any:
    """The model itself, with the attention that does all that its config says: the usual kernels leave out a soft cap."""
    if getattr(model.config, "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")
    return model


def _head(model: Any, embedding_module: Any, embedding: Any) -> Linear:
    is_tied = model.lm_head.weight.data_ptr() == embedding_module.weight.data_ptr()
    bias = model.lm_head.bias
    return Linear(embedding if is_tied else array_of(model.lm_head.weight), None if bias is None else array_of(bias))


def _phi_refusal(config: Any) -> str:
    return "normalizes queries and keys over all heads, which cannot be published" if config.qk_layernorm else ""


def _gemma3_refusal(config: Any) -> str:
    is_bidirectional = getattr(config, "use_bidirectional_attention", False)
    return "reads in both directions, and continues no text" if is_bidirectional else ""


LLAMA = CausalFamily(_llama_weights)
CAUSAL_FAMILIES: Mapping[str, CausalFamily] = {
    "gpt2": CausalFamily(_gpt2_weights, _gpt2_refusal),
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma": LLAMA,
    "gemma2": LLAMA,
    "gemma3_text": CausalFamily(_llama_weights, _gemma3_refusal),
    "phi": CausalFamily(_llama_weights, _phi_refusal),
    "phi3": LLAMA,
}
"""By transformers' `model_type`."""

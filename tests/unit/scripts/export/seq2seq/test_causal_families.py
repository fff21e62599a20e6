"""Every family's graph gives, in chunks and token by token, the logits that transformers gives of the whole text."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from onnx import ModelProto

from scripts.export.seq2seq.causal_families import CAUSAL_FAMILIES, causal_refusal
from scripts.export.seq2seq.families import num_positions
from scripts.export.seq2seq.step_graph import DecoderWeights, build_step_graph
from tests.support.tiny_causal import MODELS, VOCABULARY, gpt2, model_of

TOKENS = torch.randint(3, VOCABULARY, (2, 14), generator=torch.Generator().manual_seed(1))


def weights_of(model: Any) -> DecoderWeights:
    return CAUSAL_FAMILIES[model.config.model_type].weights(model)


def read(graph: ModelProto, weights: DecoderWeights, tokens: np.ndarray, chunks: list[int]) -> np.ndarray:
    """Logits after each chunk: (chunks, rows, vocabulary)."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    rows, capacity = len(tokens), tokens.shape[1] + 2
    shape = (rows, weights.num_cached_heads, capacity, weights.head_size)
    layers = range(len(weights.layers))
    cache = {f"past_{kind}.{layer}": np.zeros(shape, np.float32) for layer in layers for kind in ("key", "value")}
    names = [output.name for output in session.get_outputs()]
    logits, past = [], 0
    for size in chunks:
        inputs = {
            "input_ids": tokens[:, past : past + size],
            "past_lengths": np.full(rows, past, np.int32),
            "total_length": np.array(past + size, np.int32),
        }
        outputs = dict(zip(names, session.run(None, {**inputs, **cache}), strict=True))
        logits.append(outputs.pop("logits"))
        cache = {name.removeprefix("new_"): tensor for name, tensor in outputs.items()}
        past += size
    return np.stack(logits)


@pytest.mark.parametrize("name", MODELS)
def test_chunks_and_steps_give_the_logits_of_transformers(name: str) -> None:
    model = model_of(name)
    assert causal_refusal(model.config) == ""
    weights = weights_of(model)
    graph = build_step_graph(weights)
    with torch.no_grad():
        expected = model(TOKENS).logits.numpy()
    assert expected.std() > 0.3
    for chunks in ([1] * 14, [8, 1, 1, 1, 1, 1, 1]):
        ends = np.cumsum(chunks) - 1
        logits = read(graph, weights, TOKENS.numpy(), chunks)
        np.testing.assert_allclose(logits, expected[:, ends].swapaxes(0, 1), atol=1e-4, rtol=1e-4)
    logits = read(graph, weights, TOKENS[:1].numpy(), [6, 5, 3])  # several tokens behind others: of one row alone
    np.testing.assert_allclose(logits[:, 0], expected[0, [5, 10, 13]], atol=1e-4, rtol=1e-4)


def test_the_limit_is_the_table_of_positions_or_where_they_would_be_turned_otherwise() -> None:
    assert num_positions(weights_of(model_of("gpt2"))) == num_positions(weights_of(model_of("llama"))) == 64
    assert num_positions(weights_of(model_of("phi3 longrope"))) == 32


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (transformers.BloomConfig(), "is a model of bloom; of models that continue a text, those of gpt2, llama, mistral"),
        (transformers.GPT2Config(scale_attn_by_inverse_layer_idx=True), "scales its attention in a way of its own"),
        (transformers.PhiConfig(qk_layernorm=True), "normalizes queries and keys over all heads"),
        (transformers.LlamaConfig(head_dim=12), "turns 12 of 12 dimensions of a head; they should be multiples of 16 and 8"),
        (transformers.PhiConfig(partial_rotary_factor=0.1), "turns 6 of 64 dimensions of a head"),
        (transformers.LlamaConfig(quantization_config={"quant_method": "bitsandbytes"}), "holds quantized weights"),
        (transformers.Gemma3TextConfig(use_bidirectional_attention=True), "reads in both directions"),
    ],
)
def test_what_cannot_be_published_is_refused_in_a_sentence(config: Any, sentence: str) -> None:
    assert causal_refusal(config).startswith(sentence)


def test_a_head_that_is_the_embedding_is_held_once() -> None:
    graph = build_step_graph(weights_of(gpt2()))
    assert sum(list(tensor.dims) == [VOCABULARY, 32] for tensor in graph.graph.initializer) == 1

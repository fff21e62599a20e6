"""Every family's step graph gives, token by token, the logits that transformers gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from onnx import ModelProto

from scripts.export.seq2seq.families import family_of
from scripts.export.seq2seq.source_encoder import SourceEncoder
from scripts.export.seq2seq.step_graph import build_step_graph

VOCABULARY = 40
T5 = {
    "vocab_size": VOCABULARY, "d_model": 12, "d_kv": 8, "d_ff": 20, "num_layers": 2, "num_heads": 2,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 6,
}  # fmt: skip
BART = {
    "vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 20, "decoder_ffn_dim": 20, "max_position_embeddings": 24,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "scale_embedding": True,
}  # fmt: skip
BERT = {
    "vocab_size": VOCABULARY, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20,
    "max_position_embeddings": 24,
}  # fmt: skip


def bert_to_bert() -> Any:
    encoder = transformers.BertConfig(**BERT, hidden_size=12)
    decoder = transformers.BertConfig(**BERT, hidden_size=16, is_decoder=True, add_cross_attention=True)
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.pad_token_id, config.decoder_start_token_id = 0, 2
    return transformers.EncoderDecoderModel(config)


MODELS: dict[str, Callable[[], Any]] = {
    "t5": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)),
    "flan-t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    ),
    "mt5": lambda: transformers.MT5ForConditionalGeneration(transformers.MT5Config(**T5)),
    "umt5": lambda: transformers.UMT5ForConditionalGeneration(transformers.UMT5Config(**T5)),
    "bart": lambda: transformers.BartForConditionalGeneration(transformers.BartConfig(**BART)),
    "mbart": lambda: transformers.MBartForConditionalGeneration(transformers.MBartConfig(**BART)),
    "pegasus": lambda: transformers.PegasusForConditionalGeneration(transformers.PegasusConfig(**BART)),
    "marian": lambda: transformers.MarianMTModel(
        transformers.MarianConfig(**BART, activation_function="swish", decoder_vocab_size=VOCABULARY)
    ),
    "marian with two vocabularies": lambda: transformers.MarianMTModel(
        transformers.MarianConfig(
            **BART, decoder_vocab_size=33, share_encoder_decoder_embeddings=False, tie_word_embeddings=False
        )
    ),
    "m2m100": lambda: transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**BART)),
    "bert2bert": bert_to_bert,
}


def randomized(model: Any) -> Any:
    """Weights so far apart that a wrong one shows, also those that begin as zeros and ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        tensors = [parameter for name, parameter in model.named_parameters() if parameter.requires_grad]
        if hasattr(model, "final_logits_bias"):
            tensors.append(model.final_logits_bias)
        for tensor in tensors:
            spread = 0.3
            tensor.add_(spread * torch.randn(tensor.shape, generator=generator))
    return model.eval()


def run_steps(graph: ModelProto, cross: np.ndarray, lengths: list[int], tokens: np.ndarray) -> np.ndarray:
    """Logits after each token: (rows, steps, vocabulary).

    Args:
        cross: (layers, 2, rows, heads, source tokens, head size)
        lengths: of the sources.
        tokens: (rows, steps)
    """
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    num_layers, _, num_rows, num_heads, _, head_size = cross.shape
    capacity = tokens.shape[1] + 2
    empty = np.zeros((num_rows, num_heads, capacity, head_size), np.float32)
    cache = {f"past_{kind}.{layer}": empty for layer in range(num_layers) for kind in ("key", "value")}
    fixed = {f"cross_{kind}.{layer}": cross[layer, i] for layer in range(num_layers) for i, kind in enumerate(("key", "value"))}
    names = [output.name for output in session.get_outputs()]
    logits = []
    for step in range(tokens.shape[1]):
        inputs = {
            "input_ids": tokens[:, step : step + 1],
            "past_lengths": np.full(num_rows, step, np.int32),
            "total_length": np.array(step + 1, np.int32),
            "source_lengths": np.array(lengths, np.int32),
        }
        outputs = dict(zip(names, session.run(None, {**inputs, **cache, **fixed}), strict=True))
        logits.append(outputs.pop("logits"))
        cache = {name.removeprefix("new_"): tensor for name, tensor in outputs.items()}
    return np.stack(logits, 1)


@pytest.mark.parametrize("name", MODELS)
def test_each_step_gives_the_logits_of_transformers(name: str) -> None:
    torch.manual_seed(0)
    model = randomized(MODELS[name]())
    weights = family_of(model).weights(model)
    ids = torch.tensor([[5, 6, 7, 8, 9, 1], [9, 10, 11, 1, 0, 0]])
    mask = (ids != 0).long()
    tokens = torch.randint(3, 33, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        cross = SourceEncoder(model)(ids, mask)["logits"].numpy()
        expected = model(input_ids=ids, attention_mask=mask, decoder_input_ids=tokens).logits.numpy()
    shape = (2, 6, len(weights.layers), 2, weights.num_heads, weights.head_size)
    by_layer = np.ascontiguousarray(cross.reshape(shape).transpose(2, 3, 0, 4, 1, 5))
    logits = run_steps(build_step_graph(weights), by_layer, [6, 4], tokens.numpy())
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-5)


def test_a_tied_head_is_held_once() -> None:
    graph = build_step_graph(family_of(model := MODELS["bart"]()).weights(model))
    sizes = [tensor.dims for tensor in graph.graph.initializer]
    assert sum(list(size) == [VOCABULARY, 16] for size in sizes) == 1

"""Tiny models that continue a text: one of each family, with random weights that make what they write vary, and what
transformers writes with them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer as _Tokenizer

from app.core.manifest import Manifest, Parity
from app.core.sequences import SamplingParams
from app.core.types import Row
from app.runtime.generation_engine import GenerationEngine
from app.runtime.providers import Provider
from scripts.export.seq2seq.graphs import export_writer
from scripts.export.seq2seq.steps import open_engine_of
from tests.support.tiny_writer import EOS, PAD, unigram_json

VOCABULARY = 72
"""A little more than the tokenizer knows, as of real checkpoints."""
MAX_POSITIONS = 64
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
    "max_position_embeddings": MAX_POSITIONS, "bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": PAD,
}  # fmt: skip
GROUPED = {**SHAPE, "num_key_value_heads": 2, "head_dim": 16}
GEMMA = {**GROUPED, "head_dim": 16, "query_pre_attn_scalar": 12, "sliding_window": 5}


def llama(**changes: Any) -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**GROUPED, **changes}))


def gpt2(**changes: Any) -> Any:
    shape = {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": MAX_POSITIONS,
        "bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": EOS,
    }  # fmt: skip
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**shape, **changes}))


LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
LONGROPE = {"type": "longrope", "short_factor": [1.0 + 0.1 * n for n in range(8)], "long_factor": [4.0] * 8}
TWO_HEADS = {**SHAPE, "num_attention_heads": 2, "num_key_value_heads": 1}
WINDOWS = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
MODELS: Mapping[str, Callable[[], Any]] = {
    "gpt2": gpt2,
    "llama": llama,
    "llama tied, with biases": lambda: llama(tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "llama3 scaling": lambda: llama(rope_scaling=LLAMA3),
    "linear scaling": lambda: llama(rope_scaling={"rope_type": "linear", "factor": 2.0}),
    "dynamic scaling": lambda: llama(rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
    "mistral": lambda: transformers.MistralForCausalLM(transformers.MistralConfig(**GROUPED, sliding_window=5)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**TWO_HEADS)),
    "qwen2 with windows": lambda: transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(**TWO_HEADS, **WINDOWS)
    ),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**GROUPED, tie_word_embeddings=True)),
    "gemma": lambda: transformers.GemmaForCausalLM(transformers.GemmaConfig(**GROUPED)),
    "gemma2": lambda: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(
            **GEMMA, attn_logit_softcapping=4.0, final_logit_softcapping=6.0, attn_implementation="eager"
        )
    ),
    "gemma3": lambda: transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(**GEMMA, rope_local_base_freq=100.0, layer_types=["sliding_attention", "full_attention"])
    ),
    "phi": lambda: transformers.PhiForCausalLM(
        transformers.PhiConfig(**{**SHAPE, "num_attention_heads": 1}, partial_rotary_factor=0.5)
    ),
    "phi3": lambda: transformers.Phi3ForCausalLM(
        transformers.Phi3Config(**TWO_HEADS, sliding_window=5)
    ),
    "phi3 longrope": lambda: transformers.Phi3ForCausalLM(
        transformers.Phi3Config(
            **TWO_HEADS, rope_scaling=LONGROPE,
            original_max_position_embeddings=32,
        )
    ),
}  # fmt: skip
"""By what they show."""


def model_of(name: str, seed: int = 0) -> Any:
    """One of `MODELS`, with weights so far apart that a wrong one shows, also those that begin as zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def save_checkpoint(name: str, folder: Path) -> Path:
    """Write a folder as transformers saves one, with a tokenizer that puts nothing around a text.

    Returns:
        The folder.
    """
    definition = json.loads(unigram_json())
    definition["post_processor"] = None
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_Tokenizer.from_str(json.dumps(definition)), pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=MAX_POSITIONS,
    )  # fmt: skip
    model_of(name).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def engine_of(name: str) -> GenerationEngine:
    """The service's engine over one of `MODELS`; the same for all who ask in this process."""
    folder = Path(tempfile.mkdtemp(prefix="hooper-tiny-causal-"))
    graphs = export_writer(model_of(name), [], folder, eos_token_ids=(EOS,))
    manifest = Manifest(
        name="tiny", version=1, task="text-generation", created="", base_model="", max_tokens=graphs.decoder.max_length,
        graph=graphs.graph, decoder=graphs.decoder, files={},
        parity={"fp32": Parity(rows=1, agreement=1.0, max_abs_error=0.0, passed=True)},
    )  # fmt: skip
    cpu = Provider("cpu", "fp32", "for a test")
    return open_engine_of(graphs.encoder_file, graphs.decoder_file, manifest, cpu, 12, 1, keeps_prefixes=True)


def continued(model: Any, row: Row, sampling: SamplingParams) -> list[list[int]]:
    """What transformers returns for one row alone, without the row and what follows the end."""
    names = ("max_new_tokens", "min_new_tokens", "num_beams", "early_stopping", "length_penalty", "num_return_sequences",
             "repetition_penalty", "no_repeat_ngram_size")  # fmt: skip
    options = {name: getattr(sampling, name) for name in names}
    options["bad_words_ids"] = [list(words) for words in sampling.bad_words_ids] or None
    if sampling.num_beams == 1:
        del options["early_stopping"], options["length_penalty"]
    ids = torch.tensor([list(row.input_ids)])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **options)
    returned = []
    for tokens in output[:, row.num_tokens :].tolist():
        ends = [number for number, token in enumerate(tokens) if token == EOS]
        returned.append(tokens[: ends[0] + 1] if ends else tokens)
    return returned


def rows_of(lengths: Sequence[int]) -> list[Row]:
    """Of drawn tokens."""
    generator = torch.Generator().manual_seed(7)
    drawn = [torch.randint(3, 70, (length,), generator=generator).tolist() for length in lengths]
    return [Row(token_ids, [0] * len(token_ids)) for token_ids in drawn]

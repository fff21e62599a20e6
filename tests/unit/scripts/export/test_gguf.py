"""A GGUF file is read as the checkpoint that it was made of, and published; what cannot be is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from app.core.artefact import open_artefact
from app.core.errors import InvalidSettings
from scripts.export.commands import add
from scripts.export.gguf import gguf_file, unpacked
from tests.support.chat_templates import CHATML
from tests.support.tiny_causal import llama
from tests.support.writing import byte_level_json

gguf = pytest.importorskip("gguf")

HEADS, KV_HEADS, POSITIONS = 2, 1, 64
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def tiny_llama(num_tokens: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = llama(
            vocab_size=num_tokens, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, initializer_range=0.3,
            rms_norm_eps=1e-5, tie_word_embeddings=True,
        )  # fmt: skip
    return model.eval()


def interleaved(weights: torch.Tensor, heads: int) -> torch.Tensor:
    """Queries and keys as llama.cpp has them: the two halves of a head turn by turn."""
    return weights.reshape(heads, 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)


def write_gguf(file: Path, kind: str = "llama", cutting: str = "gpt-2") -> Any:
    """Of a tiny Llama with a chat template; gives the model."""
    vocabulary = json.loads(byte_level_json())["model"]
    tokens = sorted(vocabulary["vocab"], key=lambda token: vocabulary["vocab"][token])
    model = tiny_llama(len(tokens))
    writer, config = gguf.GGUFWriter(file, kind), model.config
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cutting)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if number < 3 else 1 for number in range(len(tokens))])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in vocabulary["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(1)
    writer.add_chat_template(CHATML)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        part = name.removeprefix("model.").removesuffix(".weight")
        if part.startswith("layers."):
            _, number, inner = part.split(".", 2)
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(NAMES[inner])
            tensor = tensor if heads is None else interleaved(tensor, heads)
            part = f"blk.{number}.{NAMES[inner]}"
        else:
            part = {"embed_tokens": "token_embd", "norm": "output_norm"}[part]
        writer.add_tensor(f"{part}.weight", tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_the_unpacked_model_is_the_one_that_was_written(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "tiny.gguf")
    with unpacked(str(tmp_path / "tiny.gguf")) as folder:
        assert Path(folder).name == "tiny"
        read = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert not Path(folder).exists()
    ids = torch.tensor([[5, 9, 30, 40, 7]])
    with torch.no_grad():
        torch.testing.assert_close(read(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-4)
    assert tokenizer.chat_template == CHATML
    expected = transformers.PreTrainedTokenizerFast(tokenizer_object=_definition())
    assert tokenizer("the film, 42 \n", add_special_tokens=False).input_ids == expected("the film, 42 \n").input_ids


def _definition() -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(byte_level_json())


def test_a_file_and_its_folder_are_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "story").mkdir()
    write_gguf(tmp_path / "story" / "tiny-Q8_0.gguf")
    texts = tmp_path / "texts.txt"
    texts.write_text("the film\nthe\n", encoding="utf-8")
    options = ["--models", str(tmp_path / "models"), "--data", str(texts), "--storage", "fp32"]
    assert add([str(tmp_path / "story" / "tiny-Q8_0.gguf"), "--name", "tiny", *options]) == 0, capsys.readouterr().err
    manifest = open_artefact(tmp_path / "models" / "tiny" / "1").manifest
    assert (manifest.task, manifest.base_model) == ("text-generation", "tiny-Q8_0")
    assert manifest.task_options["chat_template"] == {"default": CHATML}
    assert manifest.decoder is not None
    assert manifest.decoder.eos_token_ids == (1,)


def test_the_only_file_of_a_folder_without_other_weights_is_meant(tmp_path: Path) -> None:
    one, other = tmp_path / "one.gguf", tmp_path / "other.gguf"
    one.write_bytes(b"")
    assert gguf_file(tmp_path) == one
    assert gguf_file(one) == one
    other.write_bytes(b"")
    with pytest.raises(InvalidSettings, match=r"holds 2 GGUF files; name one of them, for example .*one\.gguf"):
        gguf_file(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert gguf_file(tmp_path) is None


@pytest.mark.parametrize(
    ("kind", "cutting", "sentence"),
    [
        ("mamba", "gpt-2", r"holds a model of mamba; of GGUF files, those of llama, mistral, qwen2, qwen3, phi3, gpt2, gemma2"),
        (
            "llama",
            "viking",
            r"cuts texts in the way 'viking' before they become tokens, which is not known here; known are gpt-2",
        ),
    ],
)
def test_what_cannot_be_read_rightly_is_refused(kind: str, cutting: str, sentence: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", kind, cutting)
    with pytest.raises(InvalidSettings, match=sentence), unpacked(str(tmp_path / "tiny.gguf")):
        pass


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF" + b"\xff" * 40)
    with (
        pytest.raises(InvalidSettings, match=r"tiny\.gguf is no GGUF file that can be read"),
        unpacked(str(tmp_path / "tiny.gguf")),
    ):
        pass

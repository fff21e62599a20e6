"""A tiny model that continues a text: a step's graph of random weights, and a published folder made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tokenizers import Tokenizer as _Tokenizer
from tokenizers import models, pre_tokenizers, processors

from app.core.manifest import MANIFEST, Decoder, Graph, Manifest, Output, Parity, describe_file
from app.runtime.decoder_session import DecoderFactory, open_decoder
from app.runtime.generation_engine import GenerationEngine
from app.runtime.providers import Provider
from app.tasks.generation import SourceText
from app.tasks.text_generation.task import TextGeneration
from app.tasks.text_generator import TextGenerator
from app.tasks.tokenizer import Tokenizer
from scripts.export.seq2seq.step_graph import (
    DecoderLayer,
    DecoderWeights,
    FeedForward,
    Linear,
    Norm,
    Rotation,
    build_step_graph,
)

CPU = Provider("cpu", "fp32", "for a test")
VOCABULARY, WIDTH, HEADS, KV_HEADS, SIZE, LAYERS = 24, 16, 2, 1, 16, 2
MAX_LENGTH = 40
EOS = 2
CHAT = {
    "chat_template": {
        "default": "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{{ bos_token }} {% for message in messages %}{{ message.content }} {% endfor %}"
    },
    "chat_tokens": {"bos_token": "<s>"},
}
GOLDEN_TEXTS = ("w5 w6", "w7", "w12 w9 w20 w8")


@cache
def weights() -> DecoderWeights:
    """Of a Llama with one head of keys for two of queries."""
    rng = np.random.default_rng(5)

    def matrix(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * shape[-1] ** -0.5).astype(np.float32)

    def norm() -> Norm:
        return Norm((1 + 0.1 * rng.normal(size=WIDTH)).astype(np.float32), None, 1e-6)

    angles = np.arange(MAX_LENGTH)[:, None] / 100.0 ** (np.arange(0, SIZE, 2) / SIZE)
    rotation = Rotation(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))
    layers = [
        DecoderLayer(
            self_qkv=Linear(2 * matrix((HEADS + 2 * KV_HEADS) * SIZE, WIDTH)),
            self_out=Linear(matrix(WIDTH, HEADS * SIZE)),
            self_norm=norm(),
            feed_forward=FeedForward(Linear(matrix(32, WIDTH)), Linear(matrix(WIDTH, 32)), "silu", Linear(matrix(32, WIDTH))),
            feed_forward_norm=norm(),
            rotation=rotation,
        )
        for _ in range(LAYERS)
    ]
    return DecoderWeights(
        num_heads=HEADS, num_kv_heads=KV_HEADS, head_size=SIZE, embedding=4 * matrix(VOCABULARY, WIDTH), layers=layers,
        is_pre_norm=True, final_norm=norm(), head=Linear(3 * matrix(VOCABULARY, WIDTH)),
    )  # fmt: skip


def write_continuer(folder: Path) -> Manifest:
    """The graph, and a manifest that is not written."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(build_step_graph(weights()), folder / "model.onnx")
    return Manifest(
        name="tiny-continuer",
        version=1,
        task="text-generation",
        created="2026-01-01T00:00:00Z",
        base_model="none",
        max_tokens=MAX_LENGTH,
        graph=Graph(
            file="model.onnx", layout="padded", inputs=("input_ids", "past_lengths", "total_length"),
            outputs=(Output(name="logits", axis="row"),), storage="fp32",
        ),
        decoder=Decoder(
            file="model.onnx", num_layers=LAYERS, num_heads=KV_HEADS, head_size=SIZE, vocab_size=VOCABULARY,
            max_length=MAX_LENGTH, has_encoder=False, eos_token_ids=(EOS,),
        ),
        parity={"fp32": Parity(rows=1, agreement=1.0, max_abs_error=0.0, passed=True)},
        files={},
    )  # fmt: skip


def continuer_engine(
    folder: Path, num_cache_rows: int = 8, decoder_factory: DecoderFactory = open_decoder, keeps_prefixes: bool = False
) -> GenerationEngine:
    manifest = write_continuer(folder)
    assert manifest.decoder is not None
    file = folder / manifest.decoder.file
    session = decoder_factory(file, manifest.decoder, CPU, 1)
    return GenerationEngine(manifest, None, file, session, CPU, num_cache_rows, 1, keeps_prefixes)


def words_json() -> str:
    """Words between blanks, and a token before a text."""
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(4, VOCABULARY))]
    tokenizer = _Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>"])
    return str(tokenizer.to_str())


def publish_tiny_continuer(
    models_dir: Path,
    name: str = "story",
    version: int = 1,
    task: str = "text-generation",
    task_options: Mapping[str, Any] | None = None,
    **decoder: Any,
) -> Path:
    """Write `models_dir/name/version`, which continues a text; `decoder` is changed in the manifest.

    Returns:
        The folder.
    """
    folder = models_dir / name / str(version)
    engine = continuer_engine(folder)
    manifest = write_continuer(folder)
    assert manifest.decoder is not None
    changed = manifest.decoder.model_copy(update=decoder)
    (folder / "tokenizer.json").write_text(words_json(), encoding="utf-8")
    serving = TextGeneration(TextGenerator(Tokenizer(words_json(), MAX_LENGTH), changed))
    golden = [{"item": {"text": text}, "answer": answer} for text, answer in _answers(serving, engine, GOLDEN_TEXTS)]
    (folder / "golden.json").write_text(json.dumps(golden), encoding="utf-8")
    files = {path.name: describe_file(path) for path in sorted(folder.iterdir())}
    changes = {
        "name": name,
        "version": version,
        "task": task,
        "decoder": changed,
        "files": files,
        "task_options": dict(CHAT if task_options is None and task == "text-generation" else task_options or {}),
    }
    (folder / MANIFEST).write_text(manifest.model_copy(update=changes).as_json(), encoding="utf-8")
    return folder


def _answers(serving: TextGeneration, engine: GenerationEngine, texts: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    options = serving.golden_options()
    answered = []
    for text, encoded in zip(texts, serving.encode([SourceText(text) for text in texts], options), strict=True):
        assert not isinstance(encoded, Exception)
        outputs = engine.generate(encoded.rows, serving.sampling(options))
        answered.append((text, asdict(serving.decode(encoded, outputs, options))))
    return answered

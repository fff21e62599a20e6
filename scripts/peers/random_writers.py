"""Models that write, with random weights in the shapes of well-known ones: as checkpoints of transformers, and published.

They are for measuring how fast is written: nothing they write has a sense, and they never end a text by themselves.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer as _Tokenizer
from tokenizers import models, pre_tokenizers, processors

from app.core.manifest import MANIFEST, Manifest, Parity, describe_file
from app.core.types import Row
from app.tasks.text2text_generation.spec import SPEC
from app.tasks.tokenizer import Tokenizer
from scripts.export.optimize import move
from scripts.export.publish import EVALUATION, as_json
from scripts.export.seq2seq.golden import golden_answers
from scripts.export.seq2seq.graphs import export_writer
from scripts.export.seq2seq.int8 import INT8_DECODER
from scripts.export.seq2seq.rows import write_int8_rows
from scripts.export.seq2seq.steps import Graphs
from scripts.tasks import training_task

SEED = 0
SPECIALS = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>", "bos": "<s>"}
UNUSED = "unused"
"""A word that no source has."""
PARITY = Parity(rows=1, agreement=1.0, max_abs_error=0.0, passed=True)
"""Of random weights nobody asks whether they agree in int8."""


@dataclass(frozen=True)
class WriterShape:
    """Of a model, with where its special tokens stand."""

    vocab_size: int
    max_tokens: int
    specials: Mapping[int, str]
    make: Callable[[int], Any]
    """From the size of its vocabulary to the model."""


def _t5(vocab_size: int) -> Any:
    config = transformers.T5Config(
        vocab_size=vocab_size, decoder_start_token_id=0, num_layers=6, num_heads=8, d_model=512, d_ff=2048
    )
    return transformers.T5ForConditionalGeneration(config)


def _bart(vocab_size: int) -> Any:
    config = transformers.BartConfig(
        vocab_size=vocab_size, d_model=768, encoder_layers=6, decoder_layers=6, encoder_attention_heads=12,
        decoder_attention_heads=12, encoder_ffn_dim=3072, decoder_ffn_dim=3072, forced_eos_token_id=None,
        normalize_before=False, normalize_embedding=True,  # which CTranslate2's converter asks for
    )  # fmt: skip
    return transformers.BartForConditionalGeneration(config)


def _marian(vocab_size: int, layers: int = 6, size: int = 512, inner: int = 2048, heads: int = 8) -> Any:
    pad = vocab_size - 1
    config = transformers.MarianConfig(
        vocab_size=vocab_size, d_model=size, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=inner, decoder_ffn_dim=inner, max_position_embeddings=512,
        activation_function="swish", scale_embedding=True, pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=0,
        forced_eos_token_id=None,
    )  # fmt: skip
    return transformers.MarianMTModel(config)


def _small_marian(vocab_size: int) -> Any:
    return _marian(vocab_size, layers=3, size=256, inner=768, heads=4)


def _tiny_marian(vocab_size: int) -> Any:
    return _marian(vocab_size, layers=1, size=32, inner=64, heads=2)


TINY = "tiny"
"""The shape that only shows that all of a measurement works."""
SHAPES = {
    "t5-small": WriterShape(32_128, 512, {0: "<pad>", 1: "</s>", 2: "<unk>"}, _t5),
    "bart-base": WriterShape(50_265, 512, {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>"}, _bart),
    "small-mt": WriterShape(8_000, 512, {0: "</s>", 1: "<unk>", 7_999: "<pad>"}, _small_marian),
    "opus-mt": WriterShape(58_101, 512, {0: "</s>", 1: "<unk>", 58_100: "<pad>"}, _marian),
    TINY: WriterShape(1_100, 512, {0: "</s>", 1: "<unk>", 1_099: "<pad>"}, _tiny_marian),
}


def words_of(shape: WriterShape) -> list[str]:
    """The vocabulary: numbered words between special tokens, the last of them one that no source has."""
    words = [shape.specials.get(number, f"w{number}") for number in range(shape.vocab_size)]
    words[next(number for number in reversed(range(shape.vocab_size)) if number not in shape.specials)] = UNUSED
    return words


def make_writer(name: str, shape: WriterShape, folder: Path) -> Path:
    """Write `checkpoint`, a folder of transformers, and the published `models/NAME/1` to a folder; what is there is kept.

    Returns:
        The checkpoint.
    """
    checkpoint, version = folder / "checkpoint", folder / "models" / name / "1"
    if (version / MANIFEST).is_file():
        return checkpoint
    shutil.rmtree(folder, ignore_errors=True)
    version.mkdir(parents=True)
    definition = _tokenizer_json(shape)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = shape.make(shape.vocab_size).eval()
    specials = {f"{name}_token": word for name, word in SPECIALS.items() if word in shape.specials.values()}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=_Tokenizer.from_str(definition), **specials)
    model.save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    _publish(name, shape, model, definition, version)
    return checkpoint


def _tokenizer_json(shape: WriterShape) -> str:
    eos = next(number for number, word in shape.specials.items() if word == "</s>")
    vocabulary = {word: number for number, word in enumerate(words_of(shape))}
    tokenizer = _Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", eos)])
    tokenizer.add_special_tokens(list(shape.specials.values()))
    return str(tokenizer.to_str())


def _publish(name: str, shape: WriterShape, model: Any, definition: str, version: Path) -> None:
    rows = [Row([9] * length, [0] * length) for length in (3, 17, 60)]
    start = model.config.decoder_start_token_id
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        graphs = export_writer(model, rows, Path(folder), start_token_id=start)
        move(graphs.encoder_file, version / "model.onnx")
        move(graphs.decoder_file, version / graphs.decoder.file)
    has_int8 = write_int8_rows(version / graphs.decoder.file, version / INT8_DECODER)
    graph = graphs.graph.model_copy(update={"file": "model.onnx"})
    decoder = graphs.decoder.model_copy(update={"max_length": min(graphs.decoder.max_length, 512)})
    files = Graphs(version / "model.onnx", graph, version / decoder.file, decoder)
    training = training_task(SPEC.name)
    task = training.serving_task(Tokenizer(definition, shape.max_tokens), {}, decoder)
    requests = [{"text": "w11 w12 w13"}]
    golden = golden_answers(training, task, files, shape.max_tokens, requests)
    texts = {"tokenizer.json": definition, "golden.json": as_json(golden), EVALUATION: json.dumps({"headline": {}})}
    for file, text in texts.items():
        (version / file).write_text(text, encoding="utf-8")
    variants = {"int8": INT8_DECODER} if has_int8 else {}
    manifest = Manifest(
        name=name, version=1, task=SPEC.name, created="2026-01-01T00:00:00Z", base_model="random weights",
        max_tokens=shape.max_tokens, graph=graph, decoder=decoder.model_copy(update={"variants": variants}),
        parity={"fp32": PARITY, "int8": PARITY},
        files={path.name: describe_file(path) for path in sorted(version.iterdir())},
    )  # fmt: skip
    (version / MANIFEST).write_text(manifest.as_json(), encoding="utf-8")

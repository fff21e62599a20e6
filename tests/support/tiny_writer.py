"""Tiny models that write: checkpoints of transformers, trained for a moment so that what they write varies and ends, and
published folders made of them.

They learn to say the words of a text backwards, and hardly do: what counts is that two ways to run them write the same.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer as _Tokenizer
from tokenizers import decoders, models, pre_tokenizers, processors

from app.core.manifest import MANIFEST, Manifest, Parity, describe_file
from app.core.types import Row
from scripts.export.seq2seq.graphs import export_writer

WORDS = ("the", "film", "was", "good", "bad", "very", "not", "old", "new", "library", "town", "opened", "in", "and", "a", "it")
PIECES = ("ed", "ing", "er", "un", "le", "th", ".", ",", "?", "!", *"abcdefghijklmnopqrstuvwxyzäöüé0123456789")
TEXTS = (
    "the film was good.",
    "a new library opened in the old town",
    "not very bad, and not very good!",
    "it was the new town, and it was old.",
    "film",
    "un film très bon, 42 fois",
)
PAD, EOS, UNK = 0, 1, 2
MAX_POSITIONS = 48
NUM_STEPS = 100
SEED = 3


@dataclass(frozen=True)
class TinyWriter:
    """A published model that writes, and what transformers wrote with its checkpoint."""

    folder: Path
    """Of the version."""
    texts: Sequence[str]
    rows: Sequence[Row]
    """The texts as the encoder reads them."""
    written: Sequence[Sequence[int]]
    """What `generate` of transformers writes greedily for each, at most 20 tokens; without the start token."""

    @property
    def manifest(self) -> Manifest:
        return Manifest.model_validate_json((self.folder / MANIFEST).read_text(encoding="utf-8"))


def unigram_json() -> str:
    """The text of a tokenizer.json as T5 has it: pieces of words, and an end-of-text token behind each text."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -4.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS] + [(piece, -3.0) for piece in PIECES]
    tokenizer = _Tokenizer(models.Unigram(pieces, unk_id=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", EOS)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return str(tokenizer.to_str())


def t5_model(vocab_size: int) -> Any:
    config = transformers.T5Config(
        vocab_size=vocab_size, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=PAD,
        relative_attention_num_buckets=8, relative_attention_max_distance=16, dropout_rate=0.0,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


def bart_model(vocab_size: int) -> Any:
    config = transformers.BartConfig(
        vocab_size=vocab_size, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=MAX_POSITIONS, dropout=0.0,
        pad_token_id=PAD, eos_token_id=EOS, bos_token_id=EOS, decoder_start_token_id=EOS, forced_eos_token_id=None,
        init_std=0.25,
    )  # fmt: skip
    return transformers.BartForConditionalGeneration(config)


FAMILIES: dict[str, Callable[[int], Any]] = {"t5": t5_model, "bart": bart_model}


@cache
def trained(family: str) -> tuple[Any, Any]:
    """A model of the family and its tokenizer; the same ones for all who ask in this process."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_Tokenizer.from_str(unigram_json()), pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=MAX_POSITIONS,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = FAMILIES[family](len(tokenizer))
        _train(model, tokenizer)
    return model.eval(), tokenizer


def _train(model: Any, tokenizer: Any) -> None:
    """A moment of training, from sentences of some words to their words the other way round."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(NUM_STEPS):
        sentences = [[WORDS[number] for number in torch.randint(len(WORDS), (count,)).tolist()] for count in range(1, 9)]
        source = tokenizer([" ".join(words) for words in sentences], padding=True, return_tensors="pt")
        target = tokenizer([" ".join(reversed(words)) for words in sentences], padding=True, return_tensors="pt")
        labels = target.input_ids.masked_fill(target.attention_mask == 0, -100)
        loss = model(input_ids=source.input_ids, attention_mask=source.attention_mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def save_checkpoint(family: str, folder: Path) -> Path:
    """Write a folder as transformers saves one.

    Returns:
        The folder.
    """
    model, tokenizer = trained(family)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def greedy(model: Any, rows: Sequence[Row], max_new_tokens: int = 20) -> list[list[int]]:
    """What transformers writes for each row alone, without the start token and what follows the end."""
    written = []
    for row in rows:
        ids = torch.tensor([list(row.input_ids)])
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, num_beams=1, do_sample=False
        )
        tokens = output[0].tolist()[1:]
        eos = model.generation_config.eos_token_id
        written.append(tokens[: tokens.index(eos) + 1] if eos in tokens else tokens)
    return written


@cache
def _published(family: str) -> TinyWriter:
    """In a folder of this process's own."""
    folder = Path(tempfile.mkdtemp(prefix="hooper-tiny-writer-"))
    model, tokenizer = trained(family)
    rows = [Row(ids, [0] * len(ids)) for ids in (tokenizer(text).input_ids for text in TEXTS)]
    with tempfile.TemporaryDirectory() as temporary:
        graphs = export_writer(
            model,
            rows,
            Path(temporary),
            start_token_id=model.config.decoder_start_token_id,
            eos_token_ids=(EOS,),
            pad_token_id=PAD,
        )
        shutil.copyfile(graphs.encoder_file, folder / "model.onnx")
        shutil.copyfile(graphs.decoder_file, folder / graphs.decoder.file)
    (folder / "tokenizer.json").write_text(unigram_json(), encoding="utf-8")
    (folder / "golden.json").write_text("[]\n", encoding="utf-8")
    (folder / "evaluation.json").write_text(json.dumps({"headline": {}}), encoding="utf-8")
    manifest = Manifest(
        name="tiny",
        version=1,
        task="text2text-generation",
        created="2026-01-01T00:00:00Z",
        base_model="none",
        max_tokens=MAX_POSITIONS,
        graph=graphs.graph.model_copy(update={"file": "model.onnx"}),
        decoder=graphs.decoder,
        parity={"fp32": Parity(rows=len(rows), agreement=1.0, max_abs_error=0.0, passed=True)},
        files={path.name: describe_file(path) for path in sorted(folder.iterdir())},
    )
    (folder / MANIFEST).write_text(manifest.as_json(), encoding="utf-8")
    return TinyWriter(folder, TEXTS, rows, greedy(model, rows))


def publish_tiny_writer(models_dir: Path, family: str = "t5", name: str = "tiny") -> TinyWriter:
    """Write `models_dir/NAME/1`, a model of the family that generates text from text.

    Args:
        models_dir: the model repository.
        family: one of `FAMILIES`.
        name: of the model.
    """
    original = _published(family)
    folder = models_dir / name / "1"
    shutil.copytree(original.folder, folder)
    manifest = original.manifest.model_copy(update={"name": name})
    (folder / MANIFEST).write_text(manifest.as_json(), encoding="utf-8")
    return TinyWriter(folder, original.texts, original.rows, original.written)

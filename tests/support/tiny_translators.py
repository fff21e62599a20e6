"""Tiny checkpoints of families whose tokenizers have no fast form in transformers, with drawn weights and real vocabularies."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers

from scripts.export.eval_data import SENTENCES
from scripts.tasks.generation.task import GenerationTraining
from scripts.tasks.spec import TrainingTask

LANGUAGES = (">>deu<<", ">>fra<<")
SHAPE = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 96, "scale_embedding": True,
}  # fmt: skip


def sentencepiece_file(file: Path, kind: str = "unigram", size: int = 180, texts: Sequence[str] = SENTENCES) -> list[str]:
    """Train a model of pieces.

    Returns:
        Its pieces without the special ones.
    """
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*texts] * 2), model_writer=written, vocab_size=size, model_type=kind,
        character_coverage=0.98, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    file.write_bytes(written.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
    pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    return [piece for piece in pieces if piece not in ("<unk>", "<s>", "</s>")]


def marian_tokenizer(folder: Path, kind: str = "unigram", languages: Sequence[str] = ()) -> Any:
    """Two sentencepiece models over one vocabulary, which lacks some of their pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    source = sentencepiece_file(folder / "source.spm", kind)
    target = sentencepiece_file(folder / "target.spm", kind, 150, [text[::-1] for text in SENTENCES])
    kept = [piece for number, piece in enumerate(dict.fromkeys([*source, *target])) if number % 13 != 5]
    tokens = ["</s>", "<unk>", *kept, *languages, "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}), encoding="utf-8")
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends a package that it does not use
        tokenizer = transformers.MarianTokenizer(*files, source_lang="en", target_lang="de", model_max_length=96)
    tokenizer.save_pretrained(folder)
    return tokenizer


def m2m100_tokenizer(folder: Path, kind: str = "bpe") -> Any:
    """One sentencepiece model, whose ids are in another order in the vocabulary, which lacks some of its pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = sentencepiece_file(folder / "sentencepiece.bpe.model", kind)
    kept = [piece for number, piece in enumerate(reversed(pieces)) if number % 17 != 5]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *kept]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}), encoding="utf-8")
    files = [str(folder / name) for name in ("vocab.json", "sentencepiece.bpe.model")]
    tokenizer = transformers.M2M100Tokenizer(*files, src_lang="en", model_max_length=96)
    tokenizer.save_pretrained(folder)
    return tokenizer


def marian_checkpoint(folder: Path, languages: Sequence[str] = ()) -> Path:
    """As OPUS-MT's lie on the hub: the padding token starts a text and is never written."""
    tokenizer = marian_tokenizer(folder, languages=languages)
    size, pad = len(tokenizer.encoder), tokenizer.pad_token_id
    config = transformers.MarianConfig(
        **SHAPE, vocab_size=size, decoder_vocab_size=size, pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=0,
        activation_function="swish", init_std=0.4,
    )  # fmt: skip
    generation = {"forced_eos_token_id": 0, "bad_words_ids": [[pad]], "num_beams": 4, "max_length": 40}
    return _saved(transformers.MarianMTModel, config, folder, generation)


def m2m100_checkpoint(folder: Path) -> Path:
    tokenizer = m2m100_tokenizer(folder)
    size = len(tokenizer.encoder) + len(tokenizer.lang_token_to_id) + 8
    config = transformers.M2M100Config(**SHAPE, vocab_size=size, init_std=0.4)
    return _saved(transformers.M2M100ForConditionalGeneration, config, folder, {"max_length": 30})


def _saved(kind: Any, config: Any, folder: Path, generation: Mapping[str, Any]) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = kind(config)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_(std=0.1)
    model.generation_config.update(**generation)
    model.save_pretrained(folder)
    return folder


def writer_options(training: TrainingTask, config: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
    assert isinstance(training, GenerationTraining)
    return training.writer_options(config, tokenizer)


def tokenizer_of(name: str, tokens: list[str], **fields: Any) -> Any:
    """What a class of transformers shows of itself."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    attributes = {
        "get_vocab": lambda self: vocabulary,
        "convert_tokens_to_ids": lambda self, token: vocabulary[token],
        "init_kwargs": {},
        **fields,
    }
    return type(name, (), attributes)()

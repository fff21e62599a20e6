"""What tasks that write need in tests: tokenizers as decoders have them, the facts of a decoder, and what an engine gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer as _Tokenizer
from tokenizers import decoders, models, pre_tokenizers, processors

from app.core.manifest import Decoder
from app.core.types import RowOutput
from app.tasks.text_generator import TextGenerator
from app.tasks.tokenizer import Tokenizer

PAD, EOS, UNK = 0, 1, 2
PIECES = ("▁", "▁the", "▁film", "▁was", "▁very", "▁good", "▁bad", ".", "s", "▁not", "a", "b", "c", "d", "e", "n", "\n")
LANGUAGES = ("__en__", "__de__", "__fr__")


def metaspace_json() -> str:
    """Unigram with bytes for what it lacks, as T5's and NLLB's are: pieces begin with a mark for the blank before them."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    vocabulary += [(piece, -float(len(PIECES) - number)) for number, piece in enumerate(PIECES)]
    tokenizer = _Tokenizer(models.Unigram(vocabulary, unk_id=UNK, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *LANGUAGES])
    return str(tokenizer.to_str())


def byte_level_json() -> str:
    """Bytes and a few merges, as BART's: a character may be made of several tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<pad>", "</s>", "<unk>", *alphabet, "th", "the", "Ġthe"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the")]
    tokenizer = _Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return str(tokenizer.to_str())


def word_piece_json() -> str:
    """BERT's, as of a model made of two: what goes on a word begins with a mark."""
    tokens = ["<pad>", "</s>", "<unk>", "the", "film", "##s", "was", "good", ".", ",", "n", "'", "t", "##t"]
    tokenizer = _Tokenizer(models.WordPiece({token: number for number, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return str(tokenizer.to_str())


def generator(max_tokens: int = 32, definition: str = "", **decoder: Any) -> TextGenerator:
    """Of a model with these facts in its manifest's `decoder`, and a tokenizer with marks for blanks."""
    tokenizer = Tokenizer(definition or metaspace_json(), max_tokens)
    facts = {"max_length": 64, "eos_token_ids": (EOS,), "start_token_id": PAD, "pad_token_id": PAD, **decoder}
    shape = {"num_layers": 1, "num_heads": 1, "head_size": 8, "vocab_size": tokenizer.vocabulary_size()}
    return TextGenerator(tokenizer, Decoder(file="decoder.onnx", **shape, **facts))


def ids_of(writer: TextGenerator, text: str, ended: bool = True) -> list[int]:
    """Tokens of a text as a decoder writes them."""
    (tokens,) = writer.target.pieces().encode([text])
    return [*tokens.ids, *([EOS] if ended else [])]


def output(*sequences: Sequence[int]) -> RowOutput:
    """What an engine gives of a row: its sequences, best first."""
    token_ids = np.array([token for sequence in sequences for token in sequence], np.int64)
    index = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    return {"token_ids": token_ids, "sequence_index": index}

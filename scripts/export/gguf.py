"""A GGUF file becomes a checkpoint of transformers for as long as it is published: its weights are unpacked to fp32."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, pre_tokenizers

from app.core.errors import InvalidSettings
from scripts.export.seq2seq.causal_families import CAUSAL_FAMILIES, causal_refusal
from scripts.training.pretrained import first_line

SUFFIX = ".gguf"
ARCHITECTURE, CUTTING, KIND = "general.architecture", "tokenizer.ggml.pre", "tokenizer.ggml.model"
"""Keys of the file's head: the kind of model, how texts are cut before they become tokens, and the kind of tokenizer."""
BYTE_PAIRS = "gpt2"
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _by_words(digits: str) -> Any:
    pattern = Regex(_WORDS.replace("{DIGITS}", digits))
    split = pre_tokenizers.Split(pattern, behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


CUTS: Mapping[str, Any] = {
    **dict.fromkeys(("gpt-2", "default", "gpt2"), pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "qwen2": _by_words(""),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), _by_words("{1,3}")),
}
"""llama.cpp's names of how byte-level vocabularies cut a text, which transformers does not read, to what does it."""


def gguf_file(source: Path) -> Path | None:
    """The GGUF file that is meant: the source itself, or the only one in a folder that holds no other weights; None: none is.

    Raises:
        InvalidSettings: there are several.
    """
    if source.is_file():
        return source if source.suffix.lower() == SUFFIX else None
    if not source.is_dir() or (source / "config.json").is_file():
        return None
    files = sorted(path for path in source.iterdir() if path.suffix.lower() == SUFFIX)
    if len(files) > 1:
        raise InvalidSettings(f"{source} holds {len(files)} GGUF files; name one of them, for example {files[0]}")
    return files[0] if files else None


@contextmanager
def unpacked(source: str) -> Iterator[str]:
    """The source itself; or, of a GGUF file, a folder as transformers saves one, which is gone afterwards.

    Raises:
        InvalidSettings: the file cannot be published, and why.
    """
    file = gguf_file(Path(source).expanduser())
    if file is None:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="hooper-gguf-") as folder:
        target = Path(folder) / file.stem
        _unpack(file, target)
        yield str(target)


def _unpack(file: Path, target: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise InvalidSettings("a GGUF file is read by the package gguf, of the extra `train`: pip install 'hooper[train]'")
    head = _head(file)
    kind = str(head.get(ARCHITECTURE, ""))
    if kind not in _readable():
        named = kind or "no kind that it names"
        raise InvalidSettings(
            f"{file} holds a model of {named}; of GGUF files, those of {', '.join(_readable())} can be published"
        )
    transformers.logging.set_verbosity_error()
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        config = transformers.AutoConfig.from_pretrained(**place)
        if refusal := causal_refusal(config):
            raise InvalidSettings(f"{file} {refusal}")
        tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
        model = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    except InvalidSettings:
        raise
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(f"{file} cannot be read by transformers: {first_line(error)}") from error
    if head.get(KIND) == BYTE_PAIRS:
        tokenizer.backend_tokenizer.pre_tokenizer = _cut(file, str(head.get(CUTTING, "default")))
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _readable() -> list[str]:
    """Kinds of models that both transformers reads out of a GGUF file and Hooper publishes."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    families = {kind.removesuffix("_text") for kind in CAUSAL_FAMILIES}
    return [kind for kind in GGUF_SUPPORTED_ARCHITECTURES if kind in families]


def _cut(file: Path, name: str) -> Any:
    if name not in CUTS:
        raise InvalidSettings(
            f"{file} cuts texts in the way {name!r} before they become tokens, which is not known here; known are"
            f" {', '.join(CUTS)}: publish the checkpoint that it was made of"
        )
    return CUTS[name]


def _head(file: Path) -> dict[str, Any]:
    """The texts and numbers of the file's head by their keys."""
    import gguf

    try:
        fields = gguf.GGUFReader(file).fields
        return {key: fields[key].contents() for key in (ARCHITECTURE, CUTTING, KIND) if key in fields}
    except Exception as error:  # whatever a broken file makes of it
        raise InvalidSettings(f"{file} is no GGUF file that can be read: {first_line(error)}") from error

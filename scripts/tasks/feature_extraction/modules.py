"""What sentence-transformers writes beside a transformer: how token vectors become one, prompts, lengths.

Read here, so that the library is not needed. Its version 5.2.0 and older ones write it so, newer ones much the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.core.errors import InvalidSettings

MODULES, PROMPTS, LENGTHS = "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"
PARTS = ("*.json", "*.txt", "*.model", "*.safetensors", "README.md")
"""Files of a repository on the hub that are fetched."""
MODES = ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken")
"""In the order in which the vectors of several stand side by side."""
KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
ACTIVATIONS = ("ELU", "GELU", "Identity", "LeakyReLU", "Mish", "ReLU", "SiLU", "Sigmoid", "Softplus", "Tanh")
"""Of torch, which a dense layer may have; without settings of their own."""
MATRYOSHKA_LOSS = re.compile(r"^- (loss:Matryoshka(2d)?Loss|matryoshka)$", re.MULTILINE | re.IGNORECASE)
"""Among the tags of a model card."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """A module behind the pooling."""

    kind: str
    """`Dense`, `LayerNorm` or `Normalize`."""
    folder: str = ""
    """Where its weights lie."""
    num_inputs: int = 0
    num_outputs: int = 0
    has_bias: bool = False
    activation: str = "Identity"


@dataclass(frozen=True, slots=True)
class SentenceModules:
    """A model of sentence-transformers in its parts."""

    transformer: str
    """Folder or hub id of what transformers loads."""
    pooling: tuple[str, ...]
    """Of `MODES`, in their order."""
    layers: tuple[LayerSpec, ...] = ()
    include_prompt: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    lower_case: bool = False
    max_tokens: int = 0
    """Longest input that its makers meant; 0: not said."""
    is_matryoshka: bool = False
    matryoshka_dimensions: tuple[int, ...] = ()
    notes: Sequence[str] = ()

    @property
    def is_normalized(self) -> bool:
        return bool(self.layers) and self.layers[-1].kind == "Normalize"


def find_modules(location: str) -> SentenceModules | None:
    """The parts of a model of sentence-transformers; None where it is none.

    Args:
        location: a folder, or a hub id.

    Raises:
        InvalidSettings: it has a part that is not known here, or one that cannot be read.
    """
    folder = _local(location)
    return None if folder is None else read_modules(folder)


def plain_modules(location: str) -> SentenceModules:
    """Those of a transformer without any, as sentence-transformers takes it: the mean over its tokens."""
    note = "it does not say how its token vectors become one: their mean is taken, as sentence-transformers does"
    return SentenceModules(location, ("mean",), notes=(note,))


def _local(location: str) -> Path | None:
    """The folder with the parts; what lies on the hub is fetched."""
    if Path(location).is_dir():
        return Path(location) if (Path(location) / MODULES).is_file() else None
    try:
        from transformers.utils.hub import cached_file  # takes seconds, and judging a version needs none of it

        file: Any = cached_file(
            location, MODULES, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
        )
    except (OSError, ValueError):  # what it is shows when its config is read
        return None
    if not file:
        return None
    from huggingface_hub import snapshot_download  # here: nothing of it is needed for a folder

    return Path(snapshot_download(location, allow_patterns=list(PARTS)))


def read_modules(folder: Path) -> SentenceModules:
    """Those of a folder with a modules.json.

    Raises:
        InvalidSettings: as for `find_modules`.
    """
    entries = [(str(entry["type"]).rpartition(".")[2], folder / entry["path"]) for entry in _ordered(folder)]
    if [kind for kind, _ in entries[:2]] != ["Transformer", "Pooling"]:
        named = ", ".join(kind for kind, _ in entries) or "nothing"
        raise InvalidSettings(f"{folder / MODULES} begins with {named}; a Transformer and a Pooling can be served")
    transformer, pooling = entries[0][1], _json(entries[1][1] / "config.json")
    prompts, lengths = _json(folder / PROMPTS, {}), _json(transformer / LENGTHS, {})
    config = _json(transformer / "config.json", {})
    sizes = tuple(sorted(int(size) for size in config.get("matryoshka_dimensions") or ()))
    return SentenceModules(
        transformer=str(transformer),
        pooling=_modes(pooling, entries[1][1]),
        layers=tuple(_layer(kind, path) for kind, path in entries[2:] if kind != "Dropout"),
        include_prompt=pooling.get("include_prompt") is not False,
        prompts={str(name): str(text) for name, text in (prompts.get("prompts") or {}).items()},
        default_prompt=_default_prompt(prompts, folder),
        lower_case=lengths.get("do_lower_case") is True,
        max_tokens=int(lengths.get("max_seq_length") or 0),
        is_matryoshka=bool(sizes) or config.get("is_matryoshka") is True or _is_tagged(folder),
        matryoshka_dimensions=sizes,
    )


def write_modules(folder: Path, modules: SentenceModules, width: int) -> list[Path]:
    """What `read_modules` and sentence-transformers 5 read, but for weights.

    Args:
        folder: in which the transformer lies.
        modules: its parts; where they lay before is not looked at.
        width: components of a token's vector.

    Returns:
        Folder of each layer.
    """
    kinds = ["Transformer", "Pooling", *(layer.kind for layer in modules.layers)]
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds) if number)]
    entries = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    pooling = {
        "word_embedding_dimension": width,
        **{key: mode in modules.pooling for mode, key in KEYS.items()},
        "include_prompt": modules.include_prompt,
    }
    lengths = {"max_seq_length": modules.max_tokens or None, "do_lower_case": modules.lower_case}
    prompts = {"prompts": dict(modules.prompts), "default_prompt_name": modules.default_prompt}
    files: dict[str, Any] = {MODULES: entries, PROMPTS: prompts, LENGTHS: lengths, f"{paths[1]}/config.json": pooling}
    for path, layer in zip(paths[2:], modules.layers, strict=True):
        if layer.kind == "LayerNorm":
            files[f"{path}/config.json"] = {"dimension": layer.num_outputs}
        elif layer.kind == "Dense":
            files[f"{path}/config.json"] = {
                "in_features": layer.num_inputs,
                "out_features": layer.num_outputs,
                "bias": layer.has_bias,
                "activation_function": f"torch.nn.{layer.activation}",
            }
    for path in paths:
        (folder / path).mkdir(parents=True, exist_ok=True)
    for path, value in files.items():
        (folder / path).write_text(json.dumps(value, indent=1), encoding="utf-8")
    return [folder / path for path in paths[2:]]


def _ordered(folder: Path) -> list[dict[str, Any]]:
    entries: Any = _json(folder / MODULES)
    is_list = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    if not is_list or not all({"path", "type"} <= set(entry) for entry in entries):
        raise InvalidSettings(f"{folder / MODULES} is no list of modules, each with a path and a type")
    return sorted(entries, key=lambda entry: entry.get("idx", 0))


def _modes(config: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    if named is not None:  # newer ones name what is done
        names = [named] if isinstance(named, str) else list(named)
        wished = {str(name).lower().removesuffix("_tokens") for name in names}
    else:
        # the library's own defaults: what is left out is off, but for the mean
        wished = {mode for mode, key in KEYS.items() if config.get(key, mode == "mean") is True}
    if not wished or not wished <= set(MODES):
        raise InvalidSettings(f"{folder} pools by {', '.join(sorted(wished)) or 'nothing'}; known are {', '.join(MODES)}")
    return tuple(mode for mode in MODES if mode in wished)


def _layer(kind: str, folder: Path) -> LayerSpec:
    if kind == "Normalize":
        return LayerSpec(kind)
    config = _json(folder / "config.json") if kind in ("Dense", "LayerNorm") else {}
    if kind == "LayerNorm":
        return LayerSpec(kind, str(folder), int(config["dimension"]), int(config["dimension"]), True)
    if kind != "Dense":
        raise InvalidSettings(f"{folder} is a module {kind}, which is not known here; known are Dense, LayerNorm and Normalize")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise InvalidSettings(f"{folder} has the activation {activation}; known are {', '.join(ACTIVATIONS)}")
    elsewhere = {config.get(f"module_{side}_name", "sentence_embedding") for side in ("input", "output")}
    if elsewhere - {"sentence_embedding", None}:
        raise InvalidSettings(f"{folder} is a dense layer of something else than the text's vector, which cannot be served")
    return LayerSpec(
        kind, str(folder), int(config["in_features"]), int(config["out_features"]), config.get("bias") is not False, activation
    )


def _default_prompt(config: Mapping[str, Any], folder: Path) -> str | None:
    name = config.get("default_prompt_name")
    if name is not None and name not in (config.get("prompts") or {}):
        raise InvalidSettings(f"{folder / PROMPTS} names the default prompt {name!r}, which is none of its prompts")
    return None if name is None else str(name)


def _is_tagged(folder: Path) -> bool:
    card = folder / "README.md"
    front, _, _ = (card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "").partition("\n---\n")
    return MATRYOSHKA_LOSS.search(front) is not None


def _json(path: Path, default: Any = None) -> Any:
    """
    Raises:
        InvalidSettings: the file is missing, where there is no default, or is no JSON.
    """
    if default is not None and not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"{path} cannot be read: {error}") from error

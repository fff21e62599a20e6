"""Pretrained weights with a fresh head, their tokenizer, and how long an input they read."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from app.core.errors import InvalidSettings
from app.core.manifest import Manifest
from app.tasks.tokenizer import Pair, Tokenizer
from scripts.export.layouts import num_positions
from scripts.export.pooling import KEY, restore_pooling
from scripts.export.published import find_serving
from scripts.export.published_checkpoint import adopt_head, restore
from scripts.export.tokenizer_definition import definition_of
from scripts.tasks.spec import CheckpointParts, TrainingTask
from scripts.training.bases import find_base
from scripts.training.hub import model_location, names_a_path, nearest
from scripts.training.recipe import NEW, PACKAGED, Recipe

if TYPE_CHECKING:
    from scripts.export.seq2seq.tokenizers import WriterTokenizer

SERVED = 8192
"""Longest input the service reads, whatever the model could."""
DEFAULT_LIMIT = 512
"""Longest input where nobody says another: more is rarely needed, and attention grows with its square."""
MULTIPLE = 16
QUANTILE = 0.995
SAMPLED = 20_000
HIDDEN_DROPOUTS = ("hidden_dropout_prob", "dropout", "embedding_dropout", "mlp_dropout")
TOKENIZER_FILES = ("tokenizer.json", "vocab.*", "*.model", "*.bpe", "*.tiktoken", "merges.txt")
CONVERTERS = {"sentencepiece": "sentencepiece", "tiktoken": "tiktoken", "google.protobuf": "protobuf"}
"""Modules that read tokenizers of other kinds than tokenizer.json, to the packages that bring them."""
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")


@dataclass(frozen=True)
class Start:
    """Where training starts: a model's weights, and the JSON text of its tokenizer."""

    base: BaseModel
    tokenizer: str
    """Empty where it is to be made from the data."""
    max_tokens: int = SERVED
    """Longest input by its tokenizer's own word, where that says one."""

    writer: WriterTokenizer | None = None
    """Of a model that writes, in place of a plain tokenizer."""

    @property
    def is_new(self) -> bool:
        """Whether nothing was learnt before."""
        return self.base.location == NEW


def find_start(name: str, role: str = "base model", models: Path = Path("models")) -> Start:
    """A base model by hub id, by folder, or the packaged one; its weights are only loaded once its head is known. Or a version
    that was published here: by its path, or as `NAME/VERSION` or `NAME` in the model repository, which come before hub ids.

    Raises:
        InvalidSettings: there is no such model, or none with a fast tokenizer; or a version that cannot be read back.
        InvalidArtefact: the version's folder is broken or altered.
    """
    if name == NEW:
        return Start(BaseModel(NEW, NEW), "")
    published = find_serving(name, models)
    if published is not None:
        version = restore(published)
        return Start(BaseModel(version.location, version.name, version.manifest), version.tokenizer)
    base = resolve(name, role)
    tokenizer = fast_tokenizer(base)
    return Start(base, definition_of(tokenizer, base.location), longest_of_tokenizer(tokenizer))


def load_model(recipe: Recipe, task: TrainingTask, task_options: Mapping[str, Any], base: BaseModel) -> Any:
    """The base model with the task's head, initialised from torch's seed; dropout as in the recipe. Its attribute
    `head_is_new` says whether the base model had no head that fits, `usual_tokens` what it reads where nobody says another.

    Raises:
        InvalidSettings: there is no such model, or its weights do not fit its architecture.
    """
    transformers.logging.set_verbosity_error()  # it would warn that the head is new
    transformers.logging.disable_progress_bar()
    parts = task.checkpoint_parts(base.location, is_named=True) or CheckpointParts(base.location)
    try:
        config = transformers.AutoConfig.from_pretrained(parts.transformer, trust_remote_code=False)
        model, report = task.model_class(config).from_pretrained(
            parts.transformer,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            # on a CPU plain matrix products train faster than the fused attention: by a third at 160 tokens, alike at 512
            attn_implementation=None if torch.cuda.is_available() else "eager",
            **_dropouts(recipe, config),
            **task.head_config(task_options),
        )
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(f"the base model {base.location} cannot be loaded: {first_line(error)}") from error
    _check_weights(model, report, base)
    prefix = _prefix(model)
    head_is_new = any(not key.startswith(prefix) for key in [*report["missing_keys"], *_names_of(report)])
    if base.version is not None and prefix:
        head_is_new = not adopt_head(model, task, task_options, base.version)
    if task.output_axis != "row" or not prefix:  # the base model's own head may have read the mean
        vars(model.config).pop(KEY, None)
    restore_pooling(model)
    model = task.assemble(model, parts)
    model.head_is_new, model.usual_tokens = head_is_new, parts.max_tokens or DEFAULT_LIMIT
    return model


def load_finished(task: TrainingTask, task_options: Mapping[str, Any], folder: Any) -> Any:
    """A model that this line trained and saved.

    Raises:
        InvalidSettings: it was trained for other labels than the data has now.
    """
    transformers.logging.set_verbosity_error()
    parts = task.checkpoint_parts(str(folder), is_named=True) or CheckpointParts(str(folder))
    config = transformers.AutoConfig.from_pretrained(parts.transformer)
    model = task.model_class(config).from_pretrained(parts.transformer)
    for key, value in task.head_config(task_options).items():
        if getattr(model.config, key) != value:
            raise InvalidSettings(f"{folder} was trained with another {key} than the data has now; leave out --resume")
    restore_pooling(model)
    return task.assemble(model, parts)


def fast_tokenizer(base: BaseModel) -> Any:
    """The model's own tokenizer, as transformers has it: read from tokenizer.json, or converted from what else there is.

    Raises:
        InvalidSettings: it has none.
    """
    transformers.logging.set_verbosity_error()  # it would warn of every conversion
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(base.location, trust_remote_code=False, use_fast=True)
    except Exception as error:  # a broken file raises whatever its parser does, and an absent one too
        raise InvalidSettings(f"the tokenizer of {base.location} cannot be loaded: {_load_failure(base, error)}") from error
    if not getattr(tokenizer, "is_fast", False):  # for some kinds transformers gives no tokenizer at all, but False
        raise InvalidSettings(
            f"{base.location} has no fast tokenizer (tokenizer.json), which serving needs; choose another base model"
        )
    return tokenizer


def _load_failure(base: BaseModel, error: Exception) -> str:
    folder = Path(base.location)
    files = sorted({path.name for pattern in TOKENIZER_FILES for path in folder.glob(pattern)}) if folder.is_dir() else []
    if folder.is_dir() and not files:
        return "the folder holds none (no tokenizer.json, vocab.txt, spm.model or the like)"
    absent = [package for module, package in CONVERTERS.items() if not _is_installed(module)]
    if absent and "tokenizer.json" not in files:
        return f"converting it needs {' and '.join(absent)}, of the extra `train`: pip install 'hooper[train]'"
    if isinstance(error, AttributeError):  # transformers works with None where it finds nothing to read
        return (
            f"transformers reads no vocabulary out of {', '.join(files) or 'its files'}: a file of sentencepiece or tiktoken is"
            " broken, or is called otherwise than its tokenizer_class expects"
        )
    return first_line(error)


def longest_of_tokenizer(tokenizer: Any) -> int:
    """Tokens of the longest input by the tokenizer's own word; without one transformers says some 1e30."""
    length = tokenizer.model_max_length
    return int(min(SERVED, length)) if isinstance(length, int | float) and length > 0 else SERVED


def longest_input(model: Any) -> int:
    """Tokens of the longest row the model reads, special tokens included."""
    return min(SERVED, num_positions(model) or SERVED)


def choose_max_tokens(recipe: Recipe, limit: int, usual: int = DEFAULT_LIMIT) -> int:
    """The recipe's `max_tokens`, or where it is 0 what the base model reads, at most 512. How long the training texts are
    says nothing about those that will be sent.

    Args:
        limit: longest input of the base model.
        usual: longest one where the recipe says none.

    Raises:
        InvalidSettings: the recipe asks for more than the model reads.
    """
    if recipe.max_tokens > limit:
        raise InvalidSettings(f"max_tokens is {recipe.max_tokens}, but the base model reads at most {limit} tokens")
    return recipe.max_tokens or min(limit, usual)


def fitting_window(definition: str, texts: Sequence[str | Pair], limit: int) -> int:
    """The window that holds 99.5 % of the texts, in multiples of 16 tokens."""
    tokenizer = Tokenizer(definition, limit)
    sample = texts[:: math.ceil(len(texts) / SAMPLED)]
    lengths = [len(windows[0].input_ids) for windows in tokenizer.windows(sample)]
    return min(limit, usual_length(lengths))


def usual_length(lengths: Sequence[int]) -> int:
    """What 99.5 % of the lengths do not exceed, in multiples of 16."""
    return math.ceil(float(np.quantile(lengths, QUANTILE, method="inverted_cdf")) / MULTIPLE) * MULTIPLE


def _dropouts(recipe: Recipe, config: Any) -> dict[str, float]:
    wished = {
        **dict.fromkeys(HIDDEN_DROPOUTS, recipe.hidden_dropout),
        **dict.fromkeys(ATTENTION_DROPOUTS, recipe.attention_dropout),
    }
    return {key: value for key, value in wished.items() if hasattr(config, key)}


def _names_of(report: Mapping[str, Any]) -> list[str]:
    """Weights of another shape, which transformers names with both shapes."""
    return [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]


def _prefix(model: Any) -> str:
    """Beginning of the names of the body's weights; empty where there is no head beside it."""
    return "" if model.base_model is model else f"{model.base_model_prefix}."


def _check_weights(model: Any, report: Mapping[str, Any], base: BaseModel) -> None:
    """A head is new; a body that is partly new means that these are not the weights of this architecture."""
    prefix = _prefix(model)
    missing = [key for key in report["missing_keys"] if key.startswith(prefix) and "pooler" not in key.split(".")]
    misfits = [key for key in report["mismatched_keys"] if key.startswith(prefix)]
    if missing or misfits:
        raise InvalidSettings(
            f"the weights of {base.location} do not fit {type(model).__name__}:"
            f" {len(missing)} are missing and {len(misfits)} have another shape, for example {[*missing, *misfits][0]}"
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a module within a package that is not there
        return False


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@dataclass(frozen=True, slots=True)
class BaseModel:
    """`location` is what transformers loads, `name` what the model card says."""

    location: str
    name: str
    version: Manifest | None = None
    """Of a version that was published here, whose weights were read back."""


def resolve(name: str, role: str = "base model") -> BaseModel:
    """Find the weights for a recipe's `base_model`: one that needs no hub, a folder, or on the hub.

    Args:
        role: what they are needed as, for the sentences.

    Raises:
        InvalidSettings: there is no such folder, one that needs no hub was not fetched or is altered, or it can only be on
            the hub, which cannot be reached. Whether the hub has it shows when it is loaded.
    """
    if name in PACKAGED:
        folder, published = find_base(name)
        return BaseModel(str(folder), published)
    if Path(name).is_dir():
        return BaseModel(name, Path(name).name)
    if Path(name).is_file():
        raise InvalidSettings(f"the {role} {name} is a file; name the folder that it lies in")
    if names_a_path(name):
        raise InvalidSettings(f"the {role} folder {name} does not exist{nearest(name, Path.is_dir)}")
    return BaseModel(model_location(name, role), name)

"""Pretrained weights with a fresh head, their tokenizer, and how long an input they read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers

from app.core.errors import InvalidSettings
from app.tasks.tokenizer import Pair, Tokenizer
from scripts.offline.base_model import BaseModel, resolve
from scripts.offline.packed import position_offset
from scripts.offline.recipe import Recipe
from scripts.offline.tasks.base import OfflineTask

SERVED = 8192
"""Longest input the service reads, whatever the model could."""
MULTIPLE = 16
QUANTILE = 0.995
SAMPLED = 20_000
HIDDEN_DROPOUTS = ("hidden_dropout_prob", "dropout", "embedding_dropout", "mlp_dropout")
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")


@dataclass(frozen=True)
class Start:
    """Where training starts: a model's weights, and the JSON text of its tokenizer."""

    base: BaseModel
    tokenizer: str


def find_start(wish: str) -> Start:
    """A base model by hub id, by folder, or the packaged one; its weights are only loaded once its head is known.

    Raises:
        InvalidSettings: there is no such model, or none with a fast tokenizer.
    """
    base = resolve(wish)
    return Start(base, load_tokenizer(base))


def load_model(recipe: Recipe, task: OfflineTask, task_options: Mapping[str, Any], base: BaseModel) -> Any:
    """The base model with the task's head, initialised from torch's seed; dropout as in the recipe.

    Raises:
        InvalidSettings: there is no such model, or its weights do not fit its architecture.
    """
    transformers.logging.set_verbosity_error()  # it would warn that the head is new
    transformers.logging.disable_progress_bar()
    auto: Any = getattr(transformers, task.auto_class)
    try:
        config = transformers.AutoConfig.from_pretrained(base.location, trust_remote_code=False)
        model, report = auto.from_pretrained(
            base.location,
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
    return model


def load_finished(task: OfflineTask, task_options: Mapping[str, Any], folder: Any) -> Any:
    """A model that this line trained and saved.

    Raises:
        InvalidSettings: it was trained for other labels than the data has now.
    """
    transformers.logging.set_verbosity_error()
    model = getattr(transformers, task.auto_class).from_pretrained(folder)
    for key, value in task.head_config(task_options).items():
        if getattr(model.config, key) != value:
            raise InvalidSettings(f"{folder} was trained with another {key} than the data has now; leave out --resume")
    return model


def load_tokenizer(base: BaseModel) -> str:
    """The JSON text of the base model's fast tokenizer.

    Raises:
        InvalidSettings: it has none.
    """
    definition: str = fast_tokenizer(base).backend_tokenizer.to_str()
    return definition


def fast_tokenizer(base: BaseModel) -> Any:
    """The model's own tokenizer, as transformers has it.

    Raises:
        InvalidSettings: it has none.
    """
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(base.location, trust_remote_code=False, use_fast=True)
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(f"the tokenizer of {base.location} cannot be loaded: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise InvalidSettings(
            f"{base.location} has no fast tokenizer (tokenizer.json), which serving needs; choose another base model"
        )
    return tokenizer


def longest_input(config: Any) -> int:
    """Tokens of the longest row the model reads, special tokens included."""
    positions = getattr(config, "max_position_embeddings", None) or SERVED
    return min(SERVED, positions - position_offset(config))


def choose_max_tokens(recipe: Recipe, definition: str, texts: Sequence[str | Pair], limit: int) -> int:
    """The recipe's `max_tokens`, or where it is 0 what holds 99.5 % of the texts, in multiples of 16.

    Raises:
        InvalidSettings: the recipe asks for more than the model reads.
    """
    if recipe.max_tokens > limit:
        raise InvalidSettings(f"max_tokens is {recipe.max_tokens}, but the base model reads at most {limit} tokens")
    if recipe.max_tokens:
        return recipe.max_tokens
    tokenizer = Tokenizer(definition, limit)
    sample = texts[:: math.ceil(len(texts) / SAMPLED)]
    lengths = [len(windows[0].input_ids) for windows in tokenizer.windows(sample)]
    needed = math.ceil(float(np.quantile(lengths, QUANTILE, method="inverted_cdf")) / MULTIPLE) * MULTIPLE
    return min(limit, needed)


def _dropouts(recipe: Recipe, config: Any) -> dict[str, float]:
    wished = {
        **dict.fromkeys(HIDDEN_DROPOUTS, recipe.hidden_dropout),
        **dict.fromkeys(ATTENTION_DROPOUTS, recipe.attention_dropout),
    }
    return {key: value for key, value in wished.items() if hasattr(config, key)}


def _check_weights(model: Any, report: Mapping[str, Any], base: BaseModel) -> None:
    """A head is new; a body that is partly new means that these are not the weights of this architecture."""
    prefix = model.base_model_prefix + "."
    missing = [key for key in report["missing_keys"] if key.startswith(prefix) and ".pooler." not in key]
    misfits = [key for key in report["mismatched_keys"] if key.startswith(prefix)]
    if missing or misfits:
        raise InvalidSettings(
            f"the weights of {base.location} do not fit {type(model).__name__}:"
            f" {len(missing)} are missing and {len(misfits)} have another shape, for example {[*missing, *misfits][0]}"
        )


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

"""A checkpoint that somebody else trained: what it is, and why it cannot be served where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from app.core.errors import InvalidSettings
from app.core.types import TaskName
from scripts.export.padded import head_logits
from scripts.export.positions import accepted_inputs, takes_token_types
from scripts.export.tokenizer_definition import definition_of
from scripts.tasks.registry import OFFLINE_TASKS, offline_task
from scripts.training.pretrained import (
    DEFAULT_LIMIT,
    BaseModel,
    fast_tokenizer,
    first_line,
    longest_input,
    longest_of_tokenizer,
    resolve,
)

NAMED = 5
"""Tokens that a note names."""
SHORTEST = 8
"""Tokens: what the manifest takes for a model's input at least."""


@dataclass(frozen=True)
class Checkpoint:
    """A torch model with its head, and what the service needs to know of it."""

    source: BaseModel
    task: TaskName
    model: Any
    tokenizer: str
    max_tokens: int
    task_options: dict[str, Any]
    notes: Sequence[str]
    """Sentences for the person at the terminal and for the card."""


def open_checkpoint(wish: str, task: TaskName | None = None, labels: Sequence[str] = (), max_tokens: int = 0) -> Checkpoint:
    """Load a folder that transformers saved, or a hub id. Never runs its code and never reads a pickle.

    Args:
        wish: folder or hub id.
        task: None: what its head is for.
        labels: names in the order of its outputs; none: its own.
        max_tokens: longest input; 0: what the model reads, at most 512.

    Raises:
        InvalidSettings: it cannot be served, and why.
    """
    source = resolve(wish)
    config = _config(source)
    task = _task(config, source, task)
    model = _model(source, offline_task(task).auto_class)
    tokenizer = fast_tokenizer(source)
    room = _vocabulary(model)
    if room is not None and len(tokenizer) > room:
        raise InvalidSettings(f"the tokenizer of {wish} knows {len(tokenizer)} tokens, its model only {room}")
    options, notes = offline_task(task).checkpoint_options(model.config, labels)
    beyond = sorted(token for token, number in tokenizer.get_vocab().items() if room is not None and number >= room)
    if beyond:
        named = ", ".join(repr(token) for token in beyond[:NAMED]) + (", …" if len(beyond) > NAMED else "")
        notes.append(
            f"the model has no vector for {len(beyond)} of its tokenizer's tokens ({named}):"
            " a text with one of them is answered by an error, as transformers does"
        )
    definition = definition_of(tokenizer, source.location)
    _check_token_types(model.eval(), tokenizer, source)
    limit = min(longest_input(model), longest_of_tokenizer(tokenizer))
    return Checkpoint(source, task, model.eval(), definition, _length(max_tokens, limit), options, notes)


def _config(source: BaseModel) -> Any:
    try:
        config = transformers.AutoConfig.from_pretrained(source.location, trust_remote_code=False)
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(
            f"{source.location} cannot be read as a checkpoint of transformers: {first_line(error)}"
        ) from error
    return config


def _task(config: Any, source: BaseModel, wish: TaskName | None) -> TaskName:
    """What the head is for.

    Raises:
        InvalidSettings: there is no head, or it is for something else than was wished.
    """
    names = config.architectures or []
    heads = [name.removesuffix("Simple") for name in names]
    found = next((task for head in heads for task, offline in OFFLINE_TASKS.items() if head.endswith(offline.heads)), None)
    if found is not None and (refusal := OFFLINE_TASKS[found].head_refusal(config, is_named=wish == found)):
        raise InvalidSettings(f"{source.location} {refusal}")
    if found is None and names:
        raise InvalidSettings(
            f"{source.location} holds {names[0]}, which has no head that can be served;"
            f" train one: hooper train DATA --base-model {source.location}"
        )
    if found is None and wish is None:
        raise InvalidSettings(f"{source.location} does not say what its head is for (architectures in config.json); say --task")
    if wish is not None and found not in (None, wish):
        raise InvalidSettings(f"{source.location} holds {names[0]}, which is for {found}, not for {wish}")
    return wish or found  # type: ignore[return-value]  # one of them is there


def _model(source: BaseModel, auto_class: str) -> Any:
    folder = Path(source.location)
    if folder.is_dir() and not list(folder.glob("*.safetensors")):
        pickles = sorted(one.name for one in folder.iterdir() if one.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        only = f"; {pickles[0]} is a pickle, which could run any code when it is read" if pickles else ""
        raise InvalidSettings(
            f"{folder} holds no weights as safetensors{only}. Save it again with save_pretrained(…, safe_serialization=True)"
        )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, report = getattr(transformers, auto_class).from_pretrained(
            source.location, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # a broken file raises whatever its parser does
        raise InvalidSettings(f"{source.location} cannot be loaded: {first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise InvalidSettings(
            f"{source.location} lacks {len(missing)} of the weights of {type(model).__name__}, for example {missing[0]}:"
            " it was saved without its head, or for another architecture"
        )
    return model


def _vocabulary(model: Any) -> int | None:
    """Tokens that the model has a vector for; None where it does not say."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):  # of models that hash characters
        return None


def _check_token_types(model: Any, tokenizer: Any, source: BaseModel) -> None:
    """A model without weights for token types may add up words in their place, as GPT-2 and XLM do.

    Raises:
        InvalidSettings: its tokenizer gives token types, and the model answers otherwise with them than without.
    """
    name = "token_type_ids"
    if name not in tokenizer.model_input_names or name not in accepted_inputs(model) or takes_token_types(model):
        return
    input_ids = torch.tensor([tokenizer("a b").input_ids])
    with torch.no_grad():
        try:
            without, given = (
                head_logits(model(input_ids=input_ids, return_dict=True, **types))
                for types in ({}, {name: torch.zeros_like(input_ids)})
            )
        except Exception:  # whatever it raises: the trial export says what it is
            return
    if not torch.allclose(without, given, atol=1e-4):
        raise InvalidSettings(
            f"{source.location} cannot be served: its tokenizer gives {name}, in place of which {type(model).__name__} adds up"
            f" words; leave {name} out of model_input_names in tokenizer_config.json if that is not meant"
        )


def _length(wish: int, limit: int) -> int:
    if not SHORTEST <= (wish or limit) <= limit:
        raise InvalidSettings(f"--max-tokens is {wish or limit}; this model reads between {SHORTEST} and {limit}")
    return wish or min(limit, DEFAULT_LIMIT)

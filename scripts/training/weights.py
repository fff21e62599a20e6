"""Which weights learn: all of them, the upper layers, or low-rank adapters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import TrainerCallback
from transformers.pytorch_utils import Conv1D

from app.core.errors import InvalidSettings, SetupError
from scripts.training.recipe import Recipe

WEIGHTS = "model.safetensors"


def layers_of(model: Any) -> list[torch.nn.Module]:
    """The body's layers, lowest first.

    Raises:
        InvalidSettings: it has none of its own, as where they share their weights.
    """
    body = getattr(model, model.base_model_prefix)
    count = model.config.num_hidden_layers
    for module in body.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return list(module)
    raise InvalidSettings(f"the layers of {type(model).__name__} cannot be told apart, so none can be frozen; leave it out")


def freeze(recipe: Recipe, model: Any) -> None:
    """Keep embeddings and the recipe's first layers as they are, for the whole run.

    Raises:
        InvalidSettings: there are not so many layers.
    """
    if recipe.freeze < 0 and not recipe.gradual_unfreezing:
        return
    layers = layers_of(model)
    if recipe.freeze > len(layers):
        raise InvalidSettings(f"freeze is {recipe.freeze}, but the model has only {len(layers)} layers")
    if recipe.freeze >= 0:
        _learn(embeddings_of(model, layers), False)
        for layer in layers[: recipe.freeze]:
            _learn(list(layer.parameters()), False)


def unfreezing(recipe: Recipe, model: Any) -> list[TrainerCallback]:
    """What thaws the model's layers as the recipe wants it."""
    return [GradualUnfreezing(model)] if recipe.gradual_unfreezing else []


def embeddings_of(model: Any, layers: list[torch.nn.Module]) -> list[torch.nn.Parameter]:
    """What lies below the layers: tables of tokens and positions, their norm, their projection."""
    body = getattr(model, model.base_model_prefix)
    in_layers = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return [
        weights
        for name, weights in body.named_parameters()
        if id(weights) not in in_layers and "embedding" in name.partition(".")[0]
    ]


class GradualUnfreezing(TrainerCallback):
    """Head and top layer learn in the first epoch, and one layer more in each; the embeddings after the lowest layer
    (Howard and Ruder 2018). Weights that were frozen before stay so."""

    def __init__(self, model: Any) -> None:
        layers = layers_of(model)
        parts = [embeddings_of(model, layers), *(list(layer.parameters()) for layer in layers)]
        self._parts = [[entry for entry in part if entry.requires_grad] for part in reversed(parts)]

    # at the beginning of an epoch, and not before: the optimizer takes only weights that learn when it is made
    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        learning = math.floor(round(state.epoch or 0, 6)) + 1
        for number, part in enumerate(self._parts):
            _learn(part, number < learning)


def average_weights(model: Any, checkpoints: Sequence[Path]) -> None:
    """Give the model the mean of the weights of checkpoints of its own (Vaswani et al. 2017 average the last ones of a run).

    Raises:
        SetupError: one of them cannot be read.
    """
    total: dict[str, torch.Tensor] = {}
    for folder in checkpoints:
        try:
            state = load_file(folder / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise SetupError(f"{folder / WEIGHTS} cannot be read, whose weights are to be averaged: {error}") from error
        for name, weight in state.items():
            total[name] = total.get(name, 0) + weight.double() / len(checkpoints)
    unknown = model.load_state_dict(total, strict=False).unexpected_keys  # of weights that are tied a file has one
    if unknown:
        raise SetupError(f"{checkpoints[-1]} holds weights that the model has not, for example {unknown[0]}")


def _learn(weights: list[torch.nn.Parameter], learns: bool) -> None:
    for weight in weights:
        weight.requires_grad_(learns)


def add_adapters(recipe: Recipe, model: Any) -> Any:
    """The model with adapters in all linear layers of its body, which alone learn, with the head.

    Raises:
        InvalidSettings: peft is not installed, or does not know where this model's adapters go.
    """
    try:
        import peft
    except ImportError as error:
        raise InvalidSettings("lora_rank needs the package peft: run `make train-env`") from error
    head = None if model.get_output_embeddings() is not None else head_of(model)  # what writes is no new head
    settings: Any = peft.LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha or 2 * recipe.lora_rank,
        lora_dropout=recipe.lora_dropout,
        target_modules="all-linear",
        modules_to_save=head,
        exclude_modules=head,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2 keeps its matrices turned
    )
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as error:
        raise InvalidSettings(f"{type(model).__name__} cannot take adapters: {error}; leave out lora_rank") from error


def merge_adapters(model: Any) -> None:
    """Put what the adapters learned into the weights of the model they were added to, and take them away."""
    model.merge_and_unload()


def head_of(model: Any) -> list[str]:
    """What transformers puts on top of the body, and the pooler, which is as new as that in many bodies."""
    own = [name for name, part in model.named_children() if name != model.base_model_prefix and list(part.parameters())]
    body = getattr(model, model.base_model_prefix)
    return own + (["pooler"] if getattr(body, "pooler", None) is not None else [])

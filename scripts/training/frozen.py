"""Weights that do not learn: the lower layers of a model, for the whole run or for its first epochs."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import TrainerCallback

from app.core.errors import InvalidSettings
from scripts.training.recipe import Recipe


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
    in_layers = {id(one) for layer in layers for one in layer.parameters()}
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
        self._parts = [[one for one in part if one.requires_grad] for part in reversed(parts)]

    # at the beginning of an epoch, and not before: the optimizer takes only weights that learn when it is made
    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        learning = math.floor(round(state.epoch or 0, 6)) + 1
        for number, part in enumerate(self._parts):
            _learn(part, number < learning)


def _learn(weights: list[torch.nn.Parameter], learns: bool) -> None:
    for one in weights:
        one.requires_grad_(learns)

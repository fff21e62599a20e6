"""Low-rank adapters (LoRA) in place of all weights, through peft; merged before anything else sees the model."""

from __future__ import annotations

from typing import Any

from app.core.errors import InvalidSettings
from scripts.training.recipe import Recipe


def add_adapters(recipe: Recipe, model: Any) -> Any:
    """The model with adapters in all linear layers of its body, which alone learn, with the head.

    Raises:
        InvalidSettings: peft is not installed, or does not know where this model's adapters go.
    """
    try:
        import peft
    except ImportError as error:
        raise InvalidSettings("lora_rank needs the package peft: run `make train-env`") from error
    settings: Any = peft.LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha or 2 * recipe.lora_rank,
        lora_dropout=recipe.lora_dropout,
        target_modules="all-linear",
        modules_to_save=_head(model),
        exclude_modules=_head(model),
    )
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as error:
        raise InvalidSettings(f"{type(model).__name__} cannot take adapters: {error}; leave out lora_rank") from error


def merge(model: Any) -> None:
    """Put what the adapters learned into the weights of the model they were added to, and take them away."""
    model.merge_and_unload()


def _head(model: Any) -> list[str]:
    """What transformers puts on top of the body, and the pooler, which is as new as that in many bodies."""
    own = [name for name, part in model.named_children() if name != model.base_model_prefix and list(part.parameters())]
    body = getattr(model, model.base_model_prefix)
    return own + (["pooler"] if getattr(body, "pooler", None) is not None else [])

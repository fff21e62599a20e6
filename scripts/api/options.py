"""What `create_trainer` and `save` take: the parts of one data set, and keys of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.core.errors import InvalidSettings
from app.core.types import TaskName
from scripts.api.data import Data, Part
from scripts.api.model import Model
from scripts.training.data import default_name

ELSEWHERE = {
    "task": "each task has its own module",
    "base_model": "get_model takes it",
    "data": "get_dataset takes it",
    "validation": "get_dataset takes it",
    "split": "get_dataset takes it as split_ratio",
    "epochs": "fit takes it",
    "models": "save takes it, within its path",
}
"""Recipe keys that have a place of their own in this flow."""
FITTING = (
    "autofit", "batch_size", "budget", "class_weights", "epoch_tokens", "freeze", "gradual_unfreezing", "label_smoothing",
    "learning_rate", "lora_alpha", "lora_dropout", "lora_rank", "max_grad_norm", "micro_batch", "schedule", "teacher",
    "teacher_share", "teacher_temperature", "warmup_share", "weight_decay",
)  # fmt: skip
"""Recipe keys that each `fit` may choose for itself."""
PUBLISHING = ("storage", "description", "license", "limits", "golden")
"""Recipe keys that decide nothing about training, and can wait until `save`."""


def check_arguments(model: Any, train: Any, val: Any) -> None:
    """
    Raises:
        InvalidSettings: it is no model, or the parts are not those of one data set.
    """
    if not isinstance(model, Model):
        raise InvalidSettings(f"the model must come from get_model, not {type(model).__name__}")
    if not isinstance(train, Part) or not isinstance(val, Part):
        raise InvalidSettings(f"train and val must come from get_dataset, not {type(train).__name__} and {type(val).__name__}")
    if train.data is not val.data or (train.name, val.name) != ("train", "validation"):
        raise InvalidSettings(
            "train and val must be the two parts of one get_dataset, in its order; other data to hold out is its `validation`"
        )


def training_values(task: TaskName, model: str, data: Data, options: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values.

    Raises:
        InvalidSettings: an option has a place elsewhere.
    """
    for key in options:
        if key in ELSEWHERE:
            raise InvalidSettings(f"create_trainer takes no {key}: {ELSEWHERE[key]}")
    return {
        "name": default_name(data.sources[0]),
        "task": task,
        "base_model": model,
        "data": list(data.sources),
        "validation": list(data.validation),
        "split": data.split_ratio,
        **options,
    }


def fitting_values(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same, if one fit may differ from the next in them.

    Raises:
        InvalidSettings: one of them is settled when the trainer is made.
    """
    for key in options:
        if key not in FITTING:
            raise InvalidSettings(f"fit takes no {key}; it takes epochs, resume, {', '.join(FITTING)}")
    return options


def publishing_values(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same, if they can wait until `save`.

    Raises:
        InvalidSettings: one of them cannot.
    """
    for key in options:
        if key not in PUBLISHING:
            raise InvalidSettings(f"save takes no {key}; it takes {', '.join(PUBLISHING)}")
    return options

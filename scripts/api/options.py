"""What a trainer is made from: a model, options that are keys of a recipe, and the Python that repeats its calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.core.command_line import FILE_OPTIONS
from app.core.errors import InvalidSettings
from app.core.types import TaskName
from scripts.api.data import Data, DataPart
from scripts.export.published import with_version
from scripts.tasks import training_task
from scripts.training.data import default_name
from scripts.training.pretrained import Start, find_start
from scripts.training.recipe import Recipe
from scripts.training.seq2seq import models as seq2seq


@dataclass(frozen=True)
class Model:
    """A pretrained model without a head: which head it gets follows from the data, when the trainer is made."""

    name: str
    """As it was asked for; of a published model with the number of its version."""
    start: Start

    def __repr__(self) -> str:
        return f"<pretrained model {self.name}>"


def get_model(name: str | Path = "packaged", task: TaskName = "") -> Model:
    """A pretrained model with a fast tokenizer.

    Args:
        name: hub id, folder, a version that was published in `models` or elsewhere (`qa/1`, `models/qa/1`; `qa`: the one
            that serves), `packaged`: the MiniLM that `make train-env` installs; or `new`, of tasks that write: a small
            transformer from nothing, whose sizes are options of the trainer.
        task: what it shall do; models that write are read otherwise than those that do not.

    Raises:
        InvalidSettings: there is no such model, or its tokenizer cannot serve.
        InvalidArtefact: the version's folder is broken or altered.
    """
    complete = with_version(str(name), Path(Recipe().models))
    if task and training_task(task).has_decoder:
        return Model(complete, seq2seq.find_start(complete, task, Path(Recipe().models)))
    return Model(complete, find_start(complete))


ELSEWHERE = {
    "task": "each task has its own module",
    "base_model": "get_model takes it",
    "data": "get_dataset takes it",
    "validation": "get_dataset takes it",
    "split": "get_dataset takes it as split_ratio",
    **dict.fromkeys(FILE_OPTIONS, "get_dataset takes it"),
    **dict.fromkeys(("teacher_data", "teacher_sentences"), "`hooper train` alone reads it"),
    "epochs": "fit takes it",
    "models": "save takes it, within its path",
}
"""Recipe keys that have a place of their own in this flow."""
FITTING = (
    "autofit", "average_checkpoints", "batch_size", "batch_tokens", "budget", "cased", "class_weights", "epoch_tokens",
    "freeze", "gradual_unfreezing", "head",
    "label_smoothing", "learning_rate", "lora_alpha", "lora_dropout", "lora_rank", "max_grad_norm", "micro_batch", "pooling",
    "schedule", "teacher", "teacher_share", "teacher_temperature", "warmup_share", "weight_decay",
)  # fmt: skip
"""Recipe keys that each `fit` may choose for itself."""
PUBLISHING = ("storage", "description", "license", "limits", "golden", "serve_anyway")
"""Recipe keys that decide nothing about training, and can wait until `save`."""


def check_arguments(model: Any, train: Any, val: Any) -> None:
    """
    Raises:
        InvalidSettings: it is no model, or the parts are not those of one data set.
    """
    if not isinstance(model, Model):
        raise InvalidSettings(f"the model must come from get_model, not {type(model).__name__}")
    if not isinstance(train, DataPart) or not isinstance(val, DataPart):
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
        **data.recipe_values(),
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


@dataclass(frozen=True)
class Script:
    """What was called until now."""

    task: TaskName
    model: str
    data: Data
    options: Mapping[str, Any]
    fits: tuple[str, ...] = ()
    """Each call of `fit` and `autofit`."""

    def fitted(self, epochs: float, options: Mapping[str, Any]) -> Script:
        """With one more `fit`."""
        arguments = "".join(f", {key}={value!r}" for key, value in options.items())
        return replace(self, fits=(*self.fits, f"fit(epochs={epochs:g}{arguments})"))

    def to_save(self, path: str, options: Mapping[str, Any]) -> str:
        """The calls up to this `save`."""
        module = training_task(self.task).api_module
        arguments = "".join(f", {key}={value!r}" for key, value in self.options.items())
        saved = "".join(f", {key}={value!r}" for key, value in options.items())
        lines = [
            f"from hooper import get_dataset, {module}",
            "",
            f"model = {module}.get_model({self.model!r})",
            f"train, val = {self.data.call}",
            f"trainer = {module}.create_trainer(model, train, val{arguments})",
            *(f"trainer.{fit}" for fit in self.fits),
            f"trainer.save({path!r}{saved})",
        ]
        return "\n".join(lines)

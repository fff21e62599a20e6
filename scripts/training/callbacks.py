"""Who listens to a training: callbacks from Python, and experiment trackers (`--log-to`), which are callbacks too."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from app.core.errors import HooperError, InvalidSettings, SetupError
from scripts.training.processes import is_main_process
from scripts.training.recipe import Recipe

TRACKERS = ("mlflow", "wandb", "tensorboard")


class Callback:
    """Is told what a training does; override what you need. An exception in one of its methods ends the run, with its name.

    `metrics` are numbers by name: `update` and `epoch` say how far the training is, `loss` and `learning_rate` come from the
    training rows, `validation_loss` from those that `autofit` sets aside.
    """

    def on_train_begin(self, metrics: Mapping[str, float]) -> None:
        """Before the first update; `updates` says how many there shall be."""

    def on_log(self, metrics: Mapping[str, float]) -> None:
        """After every few updates: `loss` is their mean."""

    def on_epoch_end(self, metrics: Mapping[str, float]) -> None:
        """After each pass over the data: `loss` is the mean since the last one, where anything was logged."""

    def on_validation(self, metrics: Mapping[str, float]) -> None:
        """After each evaluation of `autofit`, or of a sweep's trial."""

    def on_train_end(self, metrics: Mapping[str, float]) -> None:
        """After the last update."""

    def on_publish(self, metrics: Mapping[str, float], folder: Path) -> None:
        """After publishing: the headline's metrics on the held-out rows, and the version's folder."""

    def close(self) -> None:
        """However the run ends."""


class CallbackBridge(TrainerCallback):
    """Hands on to callbacks what transformers' trainer says."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks
        self._losses: list[float] = []
        self._rate = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._tell("on_train_begin", state, updates=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self._losses.append(logs["loss"])
            self._rate = logs.get("learning_rate", self._rate)
            self._tell("on_log", state, loss=logs["loss"], learning_rate=self._rate)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        if metrics:
            self._tell("on_validation", state, validation_loss=metrics["eval_loss"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        mean = {"loss": sum(self._losses) / len(self._losses)} if self._losses else {}
        self._losses = []
        self._tell("on_epoch_end", state, learning_rate=self._rate, **mean)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._tell("on_train_end", state)

    def _tell(self, method: str, state: Any, **metrics: float) -> None:
        if is_main_process():
            notify(self._callbacks, method, {"update": state.global_step, "epoch": round(state.epoch or 0, 4), **metrics})


def notify(callbacks: Sequence[Callback], method: str, *arguments: Any) -> None:
    """Call one method of each.

    Raises:
        SetupError: one of them raised something; it says whose method, and what.
    """
    for callback in callbacks:
        call: Callable[..., None] | None = getattr(callback, method, None)  # of a class of one's own with some of them alone
        if call is None:
            continue
        try:
            call(*arguments)
        except HooperError:
            raise
        except Exception as error:  # whatever it is: it is not Hooper's
            name = f"{type(callback).__name__}.{method}"
            raise SetupError(f"the callback {name} raised {type(error).__name__}: {error}; training was stopped") from error


class ExperimentTracker(Callback):
    """Logs a run to MLflow, Weights & Biases or TensorBoard: the recipe as parameters, metrics by update, the version's path.

    Which server or folder, their own environment variables say (`MLFLOW_TRACKING_URI`, `WANDB_MODE`, …); TensorBoard's files go
    to the run's folder.
    """

    def __init__(self, name: str, recipe: Recipe) -> None:
        """
        Raises:
            SetupError: the tracker cannot be started, for example because its server does not answer.
        """
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # its log lines need to know which process this is
        kind = LOGGER_TYPE_TO_CLASS[name]
        self.name = name
        options: dict[str, Any] = {
            "mlflow": {"run_name": recipe.name},
            "wandb": {"name": recipe.name},
            "tensorboard": {"logging_dir": recipe.runs},
        }[name]
        project = {"tensorboard": f"{recipe.name}/tensorboard"}.get(name, "hooper")
        try:
            self._tracker: Any = kind(project, **options)
            self._tracker.start()
            self._tracker.store_init_configuration(parameters(recipe))
        except Exception as error:  # three libraries, each with errors of its own
            raise SetupError(f"{name} could not be started: {type(error).__name__}: {error}") from error

    def on_log(self, metrics: Mapping[str, float]) -> None:
        self._log("train", metrics)

    def on_epoch_end(self, metrics: Mapping[str, float]) -> None:
        self._log("epoch", metrics)

    def on_validation(self, metrics: Mapping[str, float]) -> None:
        self._log("validation", metrics)

    def on_publish(self, metrics: Mapping[str, float], folder: Path) -> None:
        self._tracker.log({f"held_out/{name}": value for name, value in metrics.items()})
        if self.name == "tensorboard":  # whose parameters are written once
            self._tracker.log({"artefact": str(folder.resolve())})
        else:
            self._tracker.store_init_configuration({"artefact": str(folder.resolve())})

    def close(self) -> None:
        self._tracker.finish()

    def _log(self, prefix: str, metrics: Mapping[str, float]) -> None:
        values = {f"{prefix}/{name}": value for name, value in metrics.items() if name != "update"}
        self._tracker.log(values, step=int(metrics["update"]))


def parameters(recipe: Recipe) -> dict[str, Any]:
    """The recipe's keys, each as something that every tracker stores."""
    values = dataclasses.asdict(recipe)
    return {key: value if isinstance(value, bool | int | float | str) else json.dumps(value) for key, value in values.items()}


def check_trackers(names: Sequence[str]) -> None:
    """
    Raises:
        InvalidSettings: one of them is unknown, or not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise InvalidSettings(f"log_to must be one of {', '.join(TRACKERS)}, not {name!r}")
        if importlib.util.find_spec(name) is None:
            raise InvalidSettings(f"--log-to {name} needs the package {name}; run `pip install {name}`")

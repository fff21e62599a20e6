"""The learning-rate finder: a short run at rising rates, what its losses suggest, and their plot.

Source: Smith, "Cyclical Learning Rates for Training Neural Networks" (2015), arXiv:1506.01186.
"""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from app.core.errors import InvalidSettings, SetupError
from scripts.tasks.spec import TrainingRow, TrainingTask
from scripts.training.recipe import Recipe
from scripts.training.trainer import HooperTrainer, keep_freed_memory, make_arguments
from scripts.training.training_setup import set_up_training
from scripts.training.weights import add_adapters, freeze

LOWEST, HIGHEST = 1e-7, 1.0
MOST_UPDATES, FEWEST_UPDATES = 200, 100
SMOOTHING = 0.8
DIVERGED = 4.0
"""A smoothed loss this many times the least one ends the run, as in fastai."""
SKIPPED = 5
"""First updates whose smoothed loss rests on too few."""


@dataclass(frozen=True)
class Curve:
    """Rates that were tried, with the loss at each."""

    rates: Sequence[float]
    losses: Sequence[float]
    """As they were."""
    smoothed: Sequence[float]
    """Exponential means, with the bias of the first ones taken out."""

    def __repr__(self) -> str:
        return f"<losses at {len(self.rates)} learning rates; suggestion {self.suggestion:g}>"

    @property
    def minimum(self) -> float:
        """The rate of the least smoothed loss: about where training stops learning."""
        return self.rates[self._lowest]

    @property
    def steepest(self) -> float:
        """The rate below the minimum at which the smoothed loss falls fastest."""
        falling = np.gradient(np.array(self.smoothed), np.log(np.array(self.rates)))
        return self.rates[SKIPPED + int(np.argmin(falling[SKIPPED : self._lowest + 1]))]

    @property
    def suggestion(self) -> float:
        """The lower of the two that fastai gives: the steepest descent, and a tenth of the minimum."""
        return float(f"{min(self.steepest, self.minimum / 10):.1e}")

    @property
    def _lowest(self) -> int:
        return SKIPPED + int(np.argmin(self.smoothed[SKIPPED:]))


def find_learning_rate(recipe: Recipe, task: TrainingTask, model: Any, rows: Sequence[TrainingRow], folder: Path) -> Curve:
    """At most 200 updates on a copy of the model, which itself is left as it is.

    Args:
        recipe: everything of the training but its rate, schedule and length.
        task: whose head.
        model: with that head.
        folder: of the run; nothing is written into it.

    Raises:
        InvalidSettings: the recipe cannot be used with this model, or no rate makes the loss fall.
    """
    keep_freed_memory()
    learner = copy.deepcopy(model)
    course = set_up_training(recipe, task, learner, rows)
    freeze(recipe, learner)
    if recipe.lora_rank:
        learner = add_adapters(recipe, learner)
    updates = min(MOST_UPDATES, max(FEWEST_UPDATES, course.updates_per_epoch))
    watch = LossWatch(updates)
    arguments = make_arguments(
        course,
        updates,
        folder,
        save_strategy="no",
        learning_rate=1.0,  # the schedule gives the rate itself
        logging_steps=1,
        logging_nan_inf_filter=False,
    )
    HooperTrainer(course, learner, arguments, lambda optimizer: rising(optimizer, updates), [watch]).train()
    return checked(watch.curve)


def rising(optimizer: Optimizer, updates: int) -> LambdaLR:
    return LambdaLR(optimizer, lambda update: rate_at(update, updates))


def rate_at(update: int, updates: int) -> float:
    """From the lowest to the highest, by the same factor each time."""
    return float(LOWEST * (HIGHEST / LOWEST) ** (update / (updates - 1)))


def checked(curve: Curve) -> Curve:
    """
    Raises:
        InvalidSettings: nothing can be read from it.
    """
    if len(curve.rates) < SKIPPED + 3:
        raise InvalidSettings("no learning rate was found: the loss is no number from the first updates on")
    first, lowest = curve.smoothed[SKIPPED], min(curve.smoothed[SKIPPED:])
    if lowest >= first:
        raise InvalidSettings("no learning rate was found: the loss does not fall at any of them")
    return curve


class LossWatch(TrainerCallback):
    """Keeps the loss of each update, and stops once they have diverged."""

    def __init__(self, updates: int) -> None:
        self._updates = updates
        self._losses: list[float] = []
        self._smoothed: list[float] = []
        self._mean = 0.0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        loss = logs["loss"]
        if not math.isfinite(loss):
            control.should_training_stop = True
            return
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        self._losses.append(loss)
        self._smoothed.append(self._mean / (1 - SMOOTHING ** len(self._losses)))
        if len(self._losses) > SKIPPED and self._smoothed[-1] > DIVERGED * min(self._smoothed[SKIPPED:]):
            control.should_training_stop = True

    @property
    def curve(self) -> Curve:
        rates = [rate_at(update, self._updates) for update in range(len(self._losses))]
        return Curve(rates, self._losses, self._smoothed)


SUFFIXES = (".svg", ".png", ".pdf")
BLUE, GREY, RED = "#1f5fa8", "#9aa5b1", "#b3392f"


def check_plot(file: Path) -> None:
    """
    Raises:
        InvalidSettings: no picture can be written under this name, or matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InvalidSettings("the plot needs the package matplotlib: run `make train-env`")
    if file.suffix.lower() not in SUFFIXES:
        raise InvalidSettings(f"the plot {file} must end in one of {', '.join(SUFFIXES)}")


def plot(curve: Curve, file: Path) -> Path:
    """Write the losses over the rates, with the suggestion.

    Raises:
        InvalidSettings: no picture can be written under this name, or matplotlib is not installed.
        SetupError: the file cannot be written.
    """
    check_plot(file)
    from matplotlib.figure import Figure  # takes a second to import, and nothing else needs it

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses, color=GREY, linewidth=0.8, label="loss of each update")
    axes.plot(curve.rates, curve.smoothed, color=BLUE, linewidth=1.8, label="smoothed")
    axes.axvline(curve.suggestion, color=RED, label=f"suggestion {curve.suggestion:g}")
    axes.axvline(curve.steepest, color=RED, linestyle=":", label=f"steepest descent {curve.steepest:.1e}")
    axes.axvline(curve.minimum, color=RED, linestyle="--", label=f"minimum {curve.minimum:.1e}")
    axes.set_xscale("log")
    low, high = min(curve.smoothed), max(curve.smoothed[0], min(curve.smoothed) * 1.2)
    axes.set_ylim(max(0.0, low - 0.2 * (high - low)), high + 0.5 * (high - low))  # the diverged end would flatten the rest
    axes.set_xlim(curve.rates[0], curve.rates[-1])
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise SetupError(f"the plot {file} cannot be written: {error.strerror or error}") from error
    return file

"""budget: as many epochs as fit into a time, by the speed of a short trial whose weights are thrown away."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from transformers import TrainerCallback

from scripts.training.fit_rules import seconds_of
from scripts.training.processes import agreed, num_processes
from scripts.training.trainer import HooperTrainer, make_arguments
from scripts.training.training_setup import Course

TRIAL_SHARE = 0.03
"""Of the budget, how much the trial may take."""
TRIAL_UPDATES, FEWEST_TIMED = 50, 3
MARGIN = 0.1
"""Of the budget, what is kept for checkpoints and for what the trial did not see."""


@dataclass(frozen=True)
class Budgeted:
    """How long training shall last, and why."""

    updates: int
    tokens_per_s: float
    trial_s: float


class Stopwatch(TrainerCallback):
    """Times updates and stops after some seconds; the first one, which also warms up, is left out."""

    def __init__(self, course: Course, limit_s: float) -> None:
        self._collator, self._limit_s = course.collator, limit_s
        self._began, self._tokens = 0.0, 0
        self.tokens_per_s = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now, tokens = time.monotonic(), self._collator.num_tokens
        if state.global_step == 1:
            self._began, self._tokens = now, tokens
            return
        self.tokens_per_s = num_processes() * (tokens - self._tokens) / max(now - self._began, 1e-9)
        enough = state.global_step > FEWEST_TIMED and now - self._began > self._limit_s
        control.should_training_stop = agreed(enough)


def within_budget(course: Course, model: Any, folder: Path) -> Budgeted:
    """Never more epochs than would be chosen without a budget, and never less than one update.

    Args:
        course: what is trained on.
        model: left as it is.
        folder: of the run; nothing is written into it.
    """
    began, budget_s = time.monotonic(), seconds_of(course.recipe.budget)
    watch = Stopwatch(course, budget_s * TRIAL_SHARE)
    arguments = make_arguments(course, TRIAL_UPDATES, folder, save_strategy="no", learning_rate=0.0)
    constant: Any = partial(transformers.get_constant_schedule)
    HooperTrainer(course, copy.deepcopy(model), arguments, constant, [watch]).train()
    course.collator.forget()
    trial_s = time.monotonic() - began
    left_s = budget_s * (1 - MARGIN) - trial_s
    updates = _updates(course, agreed(max(0.0, left_s * watch.tokens_per_s)))
    return Budgeted(updates, round(watch.tokens_per_s), round(trial_s, 1))


def _updates(course: Course, tokens: float) -> int:
    epochs = min(course.default_epochs, course.workload.epochs_for(tokens))
    return max(1, math.floor(epochs * course.updates_per_epoch))

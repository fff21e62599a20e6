"""autofit: rows set aside from training tell when the learning rate is lowered, when training ends and what is kept of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from app.core.errors import InvalidSettings
from scripts.training.load_data import Example, split_groups
from scripts.training.schedule import WarmUp, warmup_updates
from scripts.training.training_setup import Course

SHARE, MOST_ROWS = 0.1, 2000
UPDATES_BETWEEN = 500
"""An epoch longer than this is evaluated within it."""
PATIENCE = 3
"""Evaluations in a row without a lower loss that end the run; before, each of them halves the learning rate."""
LONGER = 2
"""Epochs at most, as a multiple of those that would be chosen without autofit."""


def set_aside(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The examples to train on, and a tenth to tune on, at most two thousand; the same text, or questions about one context,
    are never in both. None of them is among the rows that are reported on: those were held out before. Which they are does
    not depend on the recipe's seed: a second fit, with another, must not tune on what the first was trained on.

    Raises:
        InvalidSettings: there are too few.
    """
    share = 1 - min(SHARE, MOST_ROWS / len(examples))
    kept, aside = split_groups(examples, share, 0, lambda one: getattr(one.item, "context", None) or repr(one.item))
    if not aside or round(len(examples) * SHARE) == 0:
        raise InvalidSettings(
            f"autofit sets a tenth of the training texts aside, but there are only {len(examples)} rows; leave it out"
        )
    return kept, aside


def updates_between(course: Course) -> int:
    """Updates from one evaluation to the next: equal parts of an epoch."""
    per_epoch = course.updates_per_epoch
    return math.ceil(per_epoch / math.ceil(per_epoch / UPDATES_BETWEEN))


def arguments(course: Course) -> dict[str, Any]:
    """What it means to transformers."""
    between = updates_between(course)
    return {
        "eval_strategy": "steps",
        "eval_steps": between,
        "save_steps": between,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "restore_callback_states_from_checkpoint": True,  # how long patience has lasted
    }


def callbacks(course: Course, updates: int) -> list[TrainerCallback]:
    # of the epochs there would be without it: it may end long before the last update
    warmup = warmup_updates(course.recipe, max(1, updates // LONGER))
    return [WarmUp(warmup, course.recipe.learning_rate), EarlyStoppingCallback(PATIENCE), LastEvaluation()]


class LastEvaluation(TrainerCallback):
    """The model after the last update is one of those the best is chosen from."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True


def figures(state: Any, num_rows: int) -> dict[str, Any]:
    """What it decided, for the record."""
    losses = [{"update": log["step"], "loss": round(log["eval_loss"], 4)} for log in state.log_history if "eval_loss" in log]
    best = min(losses, key=lambda one: one["loss"])
    return {"rows_set_aside": num_rows, "best_update": best["update"], "best_loss": best["loss"], "evaluations": losses}

"""A budget that holds although the machine got slower: the run is shortened, and its schedule with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from transformers import TrainerCallback

from scripts.training.processes import agreed
from scripts.training.recipe import Recipe
from scripts.training.schedule import make_schedule

LOOKS = 20
"""How often a run is looked at."""
SLACK = 0.05
"""Of the budget, what a run may be expected to be late before it is shortened, and what is then kept in reserve."""


class Deadline(TrainerCallback):
    """Shortens a run that would end too late; it is never lengthened, since an easy part may lie behind it."""

    def __init__(self, recipe: Recipe, began: float, budget_s: float, settle: Callable[[int], None]) -> None:
        """
        Args:
            recipe: whose schedule it is.
            began: when the budget began, by the monotonic clock.
            budget_s: seconds from then on.
            settle: told the new number of updates.
        """
        self._recipe, self._settle = recipe, settle
        self._end, self._slack_s = began + budget_s, SLACK * budget_s
        self._first = 0.0
        self._first_update = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now, done = time.monotonic(), state.global_step
        if not self._first:
            self._first, self._first_update = now, done
            return
        if done % max(1, state.max_steps // LOOKS) or done >= state.max_steps:
            return
        pace_s = (now - self._first) / (done - self._first_update)
        updates = agreed(shortened(done, state.max_steps, pace_s, self._end - now, self._slack_s))
        if updates < state.max_steps:
            state.max_steps = updates
            control.should_training_stop = done >= updates
            shorten(kwargs["lr_scheduler"], self._recipe, updates)
            self._settle(updates)


def shortened(done: int, updates: int, pace_s: float, left_s: float, slack_s: float) -> int:
    """How many updates there shall be: as many as planned, if they end in time or nearly so."""
    if (updates - done) * pace_s <= left_s + slack_s:
        return updates
    return min(updates, done + max(0, math.floor((left_s - slack_s) / pace_s)))


def shorten(scheduler: LRScheduler, recipe: Recipe, updates: int) -> None:
    """Let a schedule end after fewer updates."""
    unused = torch.optim.AdamW([torch.zeros(1)], lr=recipe.learning_rate)
    fresh: Any = make_schedule(recipe, updates)(unused)
    if isinstance(scheduler, OneCycleLR):
        scheduler.total_steps = fresh.total_steps
        vars(scheduler)["_schedule_phases"] = vars(fresh)["_schedule_phases"]
    else:
        vars(scheduler)["lr_lambdas"] = fresh.lr_lambdas * len(scheduler.base_lrs)

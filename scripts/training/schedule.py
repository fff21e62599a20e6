"""The learning rate over the updates of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import transformers
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau
from transformers import TrainerCallback

from scripts.training.recipe import Recipe

Schedule = Callable[[Optimizer], LRScheduler]
WARMUP_SHARE, ONE_CYCLE_WARMUP_SHARE = 0.06, 0.3
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.5, 0


def make_schedule(recipe: Recipe, updates: int) -> Schedule:
    """What makes the recipe's schedule for an optimizer whose learning rate is the peak."""
    warmup = warmup_updates(recipe, updates)
    if recipe.autofit:
        return partial(ReduceLROnPlateau, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE)
    if recipe.schedule == "one-cycle":
        # one more than there are updates: the step after the last one asks for a rate too
        share = warmup / updates if recipe.warmup_share >= 0 else ONE_CYCLE_WARMUP_SHARE
        return partial(OneCycleLR, max_lr=recipe.learning_rate, total_steps=updates + 1, pct_start=share)
    if recipe.schedule == "constant":
        return partial(transformers.get_constant_schedule_with_warmup, num_warmup_steps=warmup)
    falling: Any = {
        "linear": transformers.get_linear_schedule_with_warmup,
        "cosine": transformers.get_cosine_schedule_with_warmup,
    }[recipe.schedule]
    return partial(falling, num_warmup_steps=warmup, num_training_steps=updates)


def warmup_updates(recipe: Recipe, updates: int) -> int:
    """Updates over which the rate rises."""
    if recipe.warmup_share >= 0:
        return int(updates * recipe.warmup_share)
    return int(updates * (ONE_CYCLE_WARMUP_SHARE if recipe.schedule == "one-cycle" else WARMUP_SHARE))


class WarmUp(TrainerCallback):
    """Raises the rate over the first updates where the schedule itself knows no updates: `ReduceLROnPlateau` does not."""

    def __init__(self, updates: int, peak: float) -> None:
        self._updates, self._peak = updates, peak

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step <= self._updates:  # the last of them reaches the peak
            for group in kwargs["optimizer"].param_groups:
                group["lr"] = self._peak * (state.global_step + 1) / (self._updates + 1)

"""How long a run lasts: as many epochs as fit into a time, by the speed of a short trial, and what long inputs cost."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from transformers import TrainerCallback

from scripts.training.pretrained import DEFAULT_LIMIT
from scripts.training.processes import agreed, num_processes
from scripts.training.recipe import Recipe, seconds_of
from scripts.training.trainer import HooperTrainer, make_arguments, make_schedule
from scripts.training.training_setup import TrainingSetup, micro_batch

TRIAL_SHARE = 0.03
"""Of the budget, how much the trial may take."""
TRIAL_UPDATES, FEWEST_TIMED = 50, 3
MARGIN = 0.1
"""Of the budget, what is kept for checkpoints and for what the trial did not see."""


@dataclass(frozen=True)
class BudgetPlan:
    """How long training shall last, and why."""

    updates: int
    tokens_per_s: float
    trial_s: float


class Stopwatch(TrainerCallback):
    """Times updates and stops after some seconds; the first one, which also warms up, is left out."""

    def __init__(self, setup: TrainingSetup, limit_s: float, fewest: int = FEWEST_TIMED) -> None:
        self._collator, self._limit_s, self._fewest = setup.collator, limit_s, fewest
        self._began, self._tokens = 0.0, 0
        self.tokens_per_s = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now, tokens = time.monotonic(), self._collator.num_tokens
        if state.global_step == 1:
            self._began, self._tokens = now, tokens
            return
        self.tokens_per_s = num_processes() * (tokens - self._tokens) / max(now - self._began, 1e-9)
        enough = state.global_step > self._fewest and now - self._began > self._limit_s
        control.should_training_stop = agreed(enough)


def within_budget(setup: TrainingSetup, model: Any, folder: Path) -> BudgetPlan:
    """Never more epochs than would be chosen without a budget, and never less than one update.

    Args:
        model: left as it is.
        folder: of the run; nothing is written into it.
    """
    began, budget_s = time.monotonic(), seconds_of(setup.recipe.budget)
    tokens_per_s = timed_trial(setup, copy.deepcopy(model), folder, budget_s * TRIAL_SHARE)
    trial_s = time.monotonic() - began
    left_s = budget_s * (1 - MARGIN) - trial_s
    updates = _updates(setup, agreed(max(0.0, left_s * tokens_per_s)))
    return BudgetPlan(updates, round(tokens_per_s), round(trial_s, 1))


def timed_trial(setup: TrainingSetup, model: Any, folder: Path, limit_s: float, fewest: int = FEWEST_TIMED) -> float:
    """Tokens a second, by a few updates at a learning rate of 0.

    Args:
        model: a copy, which the trainer leaves wrapped in its own precision.
        folder: of the run; nothing is written into it.
        limit_s: after which no other update begins.
        fewest: updates that are timed all the same, beside the first.
    """
    watch = Stopwatch(setup, limit_s, fewest)
    arguments = make_arguments(setup, TRIAL_UPDATES, folder, save_strategy="no", learning_rate=0.0)
    constant: Any = partial(transformers.get_constant_schedule)
    HooperTrainer(setup, model, arguments, constant, [watch]).train()
    setup.collator.forget()
    return watch.tokens_per_s


def _updates(setup: TrainingSetup, tokens: float) -> int:
    epochs = min(setup.default_epochs, setup.workload.epochs_for(tokens))
    return max(1, math.floor(epochs * setup.updates_per_epoch))


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


BYTES = 4
"""Of a number in fp32."""
STATES = 4
"""Numbers that training keeps of a weight: itself, its gradient, and AdamW's two means."""
ACTIVATIONS, SCORES = 26, 3
"""What a layer holds of a text, until the way back in training: vectors of the hidden size per token, and square matrices of
attention scores per head. Fitted to the peak memory of MiniLM in fp32 at 8 × 512 and 8 × 128 tokens; it is then within a sixth
at 1 × 512, 4 × 512 and 4 × 256."""


@dataclass(frozen=True, slots=True)
class LengthCost:
    """Of inputs of one length; an estimate for encoders whose layers all attend to the whole input."""

    max_tokens: int
    training_bytes: int
    """Weights and optimizer, and the activations of the rows that are computed at once."""
    serving_bytes: int
    """Attention scores of one layer and one row; beside the weights."""
    work: float
    """Arithmetic of one such row, in rows of 512 tokens."""

    def __str__(self) -> str:
        training, serving = readable_size(self.training_bytes), readable_size(self.serving_bytes)
        return (
            f"texts of {self.max_tokens:,} tokens need about {training} of memory in training, and in serving"
            f" about {serving} each beside the weights; one is as much work as {self.work:.0f} of {DEFAULT_LIMIT} tokens"
        )


def length_cost(recipe: Recipe, model: Any, max_tokens: int) -> LengthCost | None:
    """None where the model does not say how many layers, heads and hidden units it has, or has a decoder beside its encoder."""
    config = model.config
    layers, heads, hidden = (
        getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    if not (layers and heads and hidden) or config.is_encoder_decoder:
        return None
    rows = recipe.micro_batch or micro_batch(recipe.update_size, [max_tokens])
    scores = heads * max_tokens**2
    activations = rows * layers * (ACTIVATIONS * hidden * max_tokens + SCORES * scores)
    return LengthCost(
        max_tokens,
        BYTES * (STATES * model.num_parameters() + activations),
        BYTES * SCORES * scores,
        _work(max_tokens, hidden) / _work(DEFAULT_LIMIT, hidden),
    )


def _work(num_tokens: int, hidden: int) -> int:
    """Multiplications of a layer: of each token with the weights, and with every other token."""
    return num_tokens * (12 * hidden**2 + 2 * hidden * num_tokens)


def readable_size(num_bytes: int) -> str:
    """`1.2 GB`, `340 MB`."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.0f} MB"

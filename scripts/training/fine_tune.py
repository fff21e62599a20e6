"""fine-tune: transformers' Trainer over rows that the production task encoded, for a fixed time or until it learns no more."""

from __future__ import annotations

import math
import signal
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from app.core.errors import InvalidSettings, SetupError
from scripts.tasks.spec import TrainingRow, TrainingTask
from scripts.training.budget import Deadline, within_budget
from scripts.training.callbacks import Callback, CallbackBridge
from scripts.training.casing import fold_capitals
from scripts.training.data import Example, split_groups
from scripts.training.processes import num_processes
from scripts.training.progress import TrainingProgress, peak_memory_bytes
from scripts.training.recipe import Recipe, seconds_of
from scripts.training.run_folder import Interrupted, RunFolder
from scripts.training.trainer import (
    HooperTrainer,
    Judge,
    WarmUp,
    keep_freed_memory,
    make_arguments,
    make_schedule,
    warmup_updates,
)
from scripts.training.training_setup import TrainingSetup, set_up_training
from scripts.training.weights import add_adapters, average_weights, freeze, merge_adapters, unfreezing

CHECKPOINTS, PROBE_CHECKPOINTS = 10, 2
"""How many times a run saves its state; a crash costs at most this share of it. Where the head began as a probe the run is
short, and ten checkpoints would take as long as it."""


@dataclass(frozen=True)
class RunLength:
    """How long a run lasts, and what shortens it."""

    updates: int
    callbacks: Sequence[TrainerCallback] = ()


def fine_tune(
    recipe: Recipe,
    task: TrainingTask,
    model: Any,
    rows: Sequence[TrainingRow],
    run: RunFolder,
    resume: bool,
    validation_split: Sequence[TrainingRow] = (),
    callbacks: Sequence[Callback] = (),
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Train the model in place. The trainer leaves it wrapped in its own precision: save it and load it again to use it.

    Args:
        run: keeps checkpoints.
        resume: go on from the last of them.
        validation_split: rows whose loss is taken and told to callbacks, after each epoch at least; where the recipe says
            autofit, they tell when to stop.
        judge: what else is measured on those rows: its figure of the task's primary metric, in place of the loss, tells when
            to stop.

    Returns:
        What the run cost: epochs, updates, seconds, final loss, and more.

    Raises:
        InvalidSettings: the recipe asks for what this model cannot do.
        Interrupted: Ctrl-C was pressed; what a resumed run goes on from is saved.
    """
    keep_freed_memory()
    setup = set_up_training(recipe, task, model, rows)
    freeze(recipe, model)
    learner = add_adapters(recipe, model) if recipe.lora_rank else model
    checkpoint = run.last_checkpoint if resume else None
    trainer = _trainer(setup, learner, run, _length(setup, learner, run, resume), validation_split, judge)
    trainer.add_callback(CallbackBridge(callbacks))  # type: ignore[no-untyped-call]
    result = _train(trainer, run, checkpoint, may_end_early=recipe.autofit)
    averaged = _to_average(recipe, trainer, run)
    _settle_weights(recipe, model, learner, list(averaged.values()))
    cost = _cost(setup, trainer, result, int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    return cost | _decided(setup, trainer, run, list(averaged), len(validation_split), judge)


def _settle_weights(recipe: Recipe, model: Any, learner: Any, checkpoints: Sequence[Path]) -> None:
    """Make the model what is published of it: without adapters, without an embedding of capitals, the mean of checkpoints."""
    if checkpoints:
        average_weights(model, checkpoints)
    if recipe.lora_rank:
        merge_adapters(learner)
    if recipe.cased:
        fold_capitals(model)


class StopOnSignal(TrainerCallback):
    """Ctrl-C ends the run after the update in progress, with a checkpoint: a model stopped within an update is neither
    the one before nor the one after it. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread do this
            self._before = signal.signal(signal.SIGINT, self._request)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.requested:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.release()

    def release(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _request(self, number: int, frame: Any) -> None:
        self.requested = True
        self.release()


def _length(setup: TrainingSetup, model: Any, run: RunFolder, resume: bool) -> RunLength:
    """From the recipe, from a budget, or as the run that is gone on with settled it."""
    recipe, per_epoch = setup.recipe, setup.updates_per_epoch
    if not recipe.budget:
        epochs = recipe.epochs or setup.default_epochs * (LONGER if recipe.autofit else 1)
        return RunLength(math.ceil(per_epoch * epochs))
    stored = run.stored_length if resume else None
    if stored is not None:  # what was left of the time is gone
        return RunLength(stored["updates"])
    began = time.monotonic()
    length = within_budget(setup, model, run.path)
    run.settle(asdict(length))
    deadline = Deadline(
        recipe, began, seconds_of(recipe.budget), lambda updates: run.settle(asdict(replace(length, updates=updates)))
    )
    return RunLength(length.updates, [deadline])


def _trainer(
    setup: TrainingSetup,
    model: Any,
    run: RunFolder,
    length: RunLength,
    validation_split: Sequence[TrainingRow],
    judge: Judge | None,
) -> HooperTrainer:
    recipe, updates = setup.recipe, length.updates
    callbacks = [
        TrainingProgress(setup.workload, setup.updates_per_epoch),
        *unfreezing(recipe, model),
        *length.callbacks,
        *(autofit_callbacks(setup, updates) if recipe.autofit else []),
    ]
    checkpoints = PROBE_CHECKPOINTS if recipe.head == "probe" and not recipe.average_checkpoints else CHECKPOINTS
    more: dict[str, Any] = {"save_steps": max(1, math.ceil(updates / checkpoints))}
    if recipe.average_checkpoints:  # a run that goes on finds those that it needs
        more["save_total_limit"] = recipe.average_checkpoints + 1  # and the one that it goes on from
    if recipe.autofit:
        more = autofit_arguments(setup, stopping_metric(setup.task, judge), is_error(setup.task, judge))
    elif validation_split:
        more["eval_strategy"] = "epoch"
    arguments = make_arguments(setup, updates, run.path, **more)
    schedule = make_schedule(recipe, updates, is_error(setup.task, judge))
    return HooperTrainer(setup, model, arguments, schedule, callbacks, validation_split, judge)


def _train(trainer: HooperTrainer, run: RunFolder, checkpoint: Path | None, may_end_early: bool) -> Any:
    stop = StopOnSignal()
    trainer.add_callback(stop)  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            # two checkpoints within a second make it doubt the file system's clock
            warnings.filterwarnings("ignore", message="mtime may not be reliable")
            result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyboardInterrupt:  # a second Ctrl-C, in the middle of an update
        raise Interrupted(run.last_checkpoint) from None
    finally:
        stop.release()
    if stop.requested:
        raise Interrupted(run.last_checkpoint)
    if result.global_step < trainer.state.max_steps and not may_end_early:
        raise SetupError(
            f"training ended after {result.global_step} of {trainer.args.max_steps} updates; the checkpoint in {run.path} does"
            " not fit this version, leave out --resume to start anew"
        )
    run.keep_history(history_of(trainer.state.log_history))
    return result


def _to_average(recipe: Recipe, trainer: HooperTrainer, run: RunFolder) -> dict[int, Path]:
    """The last checkpoints by their updates: those that a run has that was never stopped."""
    if not recipe.average_checkpoints:
        return {}
    places = {int(path.name.rpartition("-")[2]): path for path in run.checkpoints}
    regular = [place for place in places if place % trainer.args.save_steps == 0 or place == trainer.state.global_step]
    return {place: places[place] for place in regular[-recipe.average_checkpoints :]}


def history_of(logs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Losses and learning rates from what the trainer logged, a resumed run's from its first update on.

    Returns:
        `train`: the mean loss since the entry before, and the learning rate, by update; `validation`: autofit's losses.
    """
    train = [
        {"update": log["step"], "loss": round(log["loss"], 5), "learning_rate": log.get("learning_rate", 0.0)}
        for log in logs
        if "loss" in log and math.isfinite(log["loss"])
    ]
    validation = [{"update": log["step"], "loss": round(log["eval_loss"], 5)} for log in logs if "eval_loss" in log]
    return {"train": train, "validation": validation}


def _cost(setup: TrainingSetup, trainer: HooperTrainer, result: Any, resumed: int) -> dict[str, Any]:
    seconds = result.metrics["train_runtime"]
    return {
        "epochs": round(result.global_step / setup.updates_per_epoch, 2),
        "updates": result.global_step,
        "batch_size": setup.rows_per_update,
        "seconds": round(seconds, 1),
        "loss": round(result.training_loss, 4),
        "precision": "bf16" if trainer.args.bf16 else "fp32",
        "resumed_after_updates": resumed,
        "tokens_per_s": round(num_processes() * setup.collator.num_tokens / seconds),
        "padding_share": round(setup.collator.padding_share, 4),
        "peak_memory_bytes": peak_memory_bytes(),
        "processes": num_processes(),
    }


def _decided(
    setup: TrainingSetup,
    trainer: HooperTrainer,
    run: RunFolder,
    averaged: Sequence[int],
    num_set_aside: int,
    judge: Judge | None,
) -> dict[str, Any]:
    """What the recipe left to the run, for the record."""
    recipe, task = setup.recipe, setup.task
    decided: dict[str, Any] = {}
    if recipe.autofit:
        decided["autofit"] = autofit_record(trainer.state, num_set_aside, stopping_metric(task, judge), is_error(task, judge))
    if averaged:
        decided["averaged_after_updates"] = averaged
    if recipe.budget:
        decided["budget"] = {"asked": recipe.budget, **(run.stored_length or {})}
    return decided


SHARE, MOST_ROWS = 0.1, 2000
UPDATES_BETWEEN = 500
"""An epoch longer than this is evaluated within it."""
PATIENCE = 3
"""Evaluations in a row without a lower loss that end the run; before, each of them halves the learning rate."""
LONGER = 2
"""Epochs at most, as a multiple of those that would be chosen without autofit."""


def split_for_autofit(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The examples to train on, and a tenth to tune on, at most two thousand; the same text, or questions about one context,
    are never in both. None of them is among the rows that are reported on: those were held out before. Which they are does
    not depend on the recipe's seed: a second fit, with another, must not tune on what the first was trained on.

    Raises:
        InvalidSettings: there are too few.
    """
    share = 1 - min(SHARE, MOST_ROWS / len(examples))
    remaining, validation_split = split_groups(
        examples, share, 0, lambda example: getattr(example.item, "context", None) or repr(example.item)
    )
    if not validation_split or round(len(examples) * SHARE) == 0:
        raise InvalidSettings(
            f"autofit sets a tenth of the training texts aside, but there are only {len(examples)} rows; leave it out"
        )
    return remaining, validation_split


def updates_between(setup: TrainingSetup) -> int:
    """Updates from one evaluation to the next: equal parts of an epoch."""
    per_epoch = setup.updates_per_epoch
    return math.ceil(per_epoch / math.ceil(per_epoch / UPDATES_BETWEEN))


def stopping_metric(task: TrainingTask, judge: Judge | None) -> str:
    """What autofit goes by."""
    return "loss" if judge is None else task.primary_metric


def is_error(task: TrainingTask, judge: Judge | None) -> bool:
    """Whether less of it is better."""
    return judge is None or task.primary_is_error


def autofit_arguments(setup: TrainingSetup, metric: str = "loss", is_error: bool = True) -> dict[str, Any]:
    """What it means to transformers."""
    between = updates_between(setup)
    return {
        "eval_strategy": "steps",
        "eval_steps": between,
        "save_steps": between,
        "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_{metric}",
        "greater_is_better": not is_error,
        "restore_callback_states_from_checkpoint": True,  # how long patience has lasted
    }


def autofit_callbacks(setup: TrainingSetup, updates: int) -> list[TrainerCallback]:
    # of the epochs there would be without it: it may end long before the last update
    warmup = warmup_updates(setup.recipe, max(1, updates // LONGER))
    return [WarmUp(warmup, setup.recipe.learning_rate), EarlyStoppingCallback(PATIENCE), LastEvaluation()]


class LastEvaluation(TrainerCallback):
    """The model after the last update is one of those the best is chosen from."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True


def autofit_record(state: Any, num_rows: int, metric: str = "loss", is_error: bool = True) -> dict[str, Any]:
    """What it decided, for the record."""
    names = dict.fromkeys(["loss", metric])
    evaluations = [
        {"update": log["step"], **{name: round(log[f"eval_{name}"], 4) for name in names}}
        for log in state.log_history
        if "eval_loss" in log
    ]
    best = (min if is_error else max)(evaluations, key=lambda entry: entry[metric])
    record = {"rows_set_aside": num_rows, "best_update": best["update"], "best_loss": best["loss"], "evaluations": evaluations}
    return {**record, **({"metric": metric, "best_figure": best[metric]} if metric != "loss" else {})}

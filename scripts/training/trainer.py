"""transformers' Trainer with Hooper's order of rows, loss and learning rate."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from scripts.tasks.spec import TrainingRow
from scripts.training.data_loader import EpochStart
from scripts.training.objective import labelled_part, mean_loss
from scripts.training.processes import agreed
from scripts.training.progress import PLAIN_LINES
from scripts.training.recipe import Recipe
from scripts.training.seq2seq.batches import TokenBatches
from scripts.training.training_setup import TrainingSetup, uses_bf16


class HooperTrainer(Trainer):
    """Trains a model in place; with rows set aside, it evaluates by their mean loss."""

    def __init__(
        self,
        setup: TrainingSetup,
        model: Any,
        args: TrainingArguments,
        schedule: Schedule,
        callbacks: Sequence[TrainerCallback],
        validation_split: Sequence[TrainingRow] = (),
        judge: Judge | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=setup.rows,
            eval_dataset=validation_split or None,
            data_collator=setup.collator,
            callbacks=[EpochStart(setup.collator, setup.order), *callbacks],
        )
        self._setup, self._schedule, self._validation_split, self._judge = setup, schedule, validation_split, judge
        self.model_accepts_loss_kwargs = False  # the loss is a mean: accumulated ones are averaged by the trainer
        for unwanted in (ProgressCallback, PrinterCallback):
            self.remove_callback(unwanted)  # type: ignore[no-untyped-call]

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        order: Any = self._setup.order
        return order  # type: ignore[no-any-return]

    def get_train_dataloader(self) -> DataLoader[Any]:
        order = self._setup.order
        if not isinstance(order, TokenBatches):
            return super().get_train_dataloader()
        loader: Any = DataLoader(
            self._setup.rows,  # type: ignore[arg-type]  # a sequence is all that it needs
            batch_sampler=order,
            collate_fn=self._setup.collator,
        )
        return self.accelerator.prepare(loader)  # type: ignore[no-any-return]

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        to_steer: Any = optimizer or self.optimizer
        scheduler: Any = self._schedule(to_steer)
        self.lr_scheduler = scheduler
        return scheduler  # type: ignore[no-any-return]

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        loss, outputs = self._setup.objective(model, inputs)
        right = self._setup.objective.num_correct(*labelled_part(outputs, inputs))
        vars(self.state)["hooper_correct"] = right  # read by TrainingProgress
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """The loss on the rows set aside, as `mean_loss` has it: every process computes it, one decides. And what `judge`
        measures, where there is one."""
        model = self.accelerator.unwrap_model(self.model)
        metrics = {"eval_loss": agreed(mean_loss(self._setup.task, model, self._validation_split))}
        if self._judge is not None:
            metrics |= {f"eval_{name}": figure for name, figure in self._judge(model).items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def make_arguments(setup: TrainingSetup, updates: int, folder: Path, **more: Any) -> TrainingArguments:
    """What the recipe means to transformers; `more` goes over it."""
    recipe = setup.recipe
    transformers.logging.set_verbosity_error()
    tell_accelerate(uses_bf16(recipe))
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": updates,
        "per_device_train_batch_size": setup.at_once,
        "gradient_accumulation_steps": setup.updates_at_once,
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "bf16": uses_bf16(recipe),
        "use_cpu": not torch.cuda.is_available(),
        "optim": "adamw_torch_fused",
        "save_strategy": "steps",
        "save_total_limit": 2,
        "logging_steps": min(10, max(1, updates // PLAIN_LINES)),
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "label_names": ["labels"],
        "report_to": [],
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        # layers that do not learn yet have no gradient to exchange
        "ddp_find_unused_parameters": recipe.gradual_unfreezing,
    }
    return TrainingArguments(**{**settings, **more})


def tell_accelerate(bf16: bool) -> None:
    """Arguments without bf16 leave to accelerate what stands in the environment, and those with it leave their word there:
    after a training in bf16, none of the same process would be in fp32 again."""
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if bf16 else "no"


Schedule = Callable[[Optimizer], LRScheduler]
Judge = Callable[[Any], Mapping[str, float]]
"""Metrics of a model's answers to rows set aside."""
WARMUP_SHARE, ONE_CYCLE_WARMUP_SHARE = 0.06, 0.3
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.5, 0


def make_schedule(recipe: Recipe, updates: int, is_error: bool = True) -> Schedule:
    """What makes the recipe's schedule for an optimizer whose learning rate is the peak.

    Args:
        is_error: of what autofit goes by, whether less of it is better.
    """
    warmup = warmup_updates(recipe, updates)
    if recipe.autofit:
        return partial(ReduceLROnPlateau, mode="min" if is_error else "max", factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE)
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


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 2**31 - 1
PAD_BYTES = 2**28


def keep_freed_memory() -> bool:
    """Make glibc reuse freed memory instead of mapping it anew: page faults cost a quarter of a CPU training step.

    Returns:
        Whether the allocator took the settings; it is left alone on other systems.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    set_option = ctypes.CDLL(None).mallopt
    options = ((M_MMAP_THRESHOLD, KEPT_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, PAD_BYTES))
    accepted = [set_option(option, value) == 1 for option, value in options]  # each of them, whatever became of the others
    return all(accepted)

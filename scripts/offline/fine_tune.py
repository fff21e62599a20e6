"""fine-tune: transformers' Trainer over rows that the production task encoded."""

from __future__ import annotations

import math
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from app.core.errors import InvalidSettings
from app.core.manifest import Graph, Output
from app.core.types import Row
from app.runtime.layout import plan, to_tensors
from scripts.offline.progress import TrainingProgress
from scripts.offline.recipe import Recipe
from scripts.offline.run_folder import Interrupted, RunFolder
from scripts.offline.tasks.base import OfflineTask, TrainingRow
from scripts.offline.torch_runner import padded_graph

CHECKPOINTS = 10
"""How many times a run saves its state; a crash costs at most this share of it."""
SORTED_BATCHES = 50
"""Rows are sorted by length within so many batches: little padding, and still a random order."""


def fine_tune(
    recipe: Recipe, task: OfflineTask, model: Any, rows: Sequence[TrainingRow], run: RunFolder, resume: bool
) -> dict[str, Any]:
    """Train the model in place.

    Returns:
        What the run cost: epochs, updates, seconds, final loss.

    Raises:
        Interrupted: Ctrl-C was pressed; what a resumed run goes on from is saved.
    """
    _check_smoothing(recipe, model)
    epochs = recipe.epochs or default_epochs(len(rows), recipe.batch_size, model.config.num_labels)
    updates = math.ceil(math.ceil(len(rows) / recipe.batch_size) * epochs)
    collator = Collator(task, padded_graph(model, Output(name="logits", axis=task.output_axis)), recipe.epoch_tokens)
    order = LengthGroups([one.row.num_tokens for one in rows], recipe.batch_size, recipe.seed)
    stop = StopOnSignal()
    trainer = _Trainer(
        model=model,
        args=_arguments(recipe, epochs, updates, run),
        train_dataset=rows,
        data_collator=collator,
        callbacks=[TrainingProgress(), EpochStart(collator, order), stop],
        count_correct=task.num_correct,
        order=order,
    )
    for unwanted in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(unwanted)  # type: ignore[no-untyped-call]
    checkpoint = run.last_checkpoint if resume else None
    try:
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyboardInterrupt:  # a second Ctrl-C, in the middle of an update
        raise Interrupted(run.last_checkpoint) from None
    finally:
        stop.release()
    if stop.requested:
        raise Interrupted(run.last_checkpoint)
    return {
        "epochs": epochs,
        "updates": result.global_step,
        "seconds": round(result.metrics["train_runtime"], 1),
        "loss": round(result.training_loss, 4),
        "precision": "bf16" if trainer.args.bf16 else "fp32",
        "resumed_after_updates": int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
    }


def default_epochs(num_rows: int, batch_size: int, num_labels: int) -> int:
    """Enough epochs for 1,500 updates, or 30 per label if that is more; between 2 and 12."""
    per_epoch = max(1, math.ceil(num_rows / batch_size))
    return min(12, max(2, round(max(1500, 30 * num_labels) / per_epoch)))


def has_bf16() -> bool:
    """Whether this machine multiplies bf16 in hardware."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    cpu: Any = torch.cpu
    return bool(cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported())


def crop(row: Row, limit: int) -> Row:
    """The row's first and last tokens, `limit` in all: both ends of a text say more than its middle."""
    if row.num_tokens <= limit:
        return row
    tail = limit // 2
    head = limit - tail
    ids, types = list(row.input_ids), list(row.token_type_ids)
    return Row(ids[:head] + ids[-tail:], types[:head] + types[-tail:])


class Collator:
    """Rows to a padded batch of torch tensors, cropped to the epoch's limit."""

    def __init__(self, task: OfflineTask, graph: Graph, epoch_tokens: Sequence[int]) -> None:
        self._task, self._graph, self._epoch_tokens = task, graph, epoch_tokens
        self._limit = epoch_tokens[0] if epoch_tokens else 0

    def __call__(self, batch: Sequence[TrainingRow]) -> dict[str, torch.Tensor]:
        rows = [crop(one.row, self._limit) if self._limit else one.row for one in batch]
        where = plan([row.num_tokens for row in rows], "padded", fixed_shapes=False)
        tensors = to_tensors(rows, where, self._graph, fixed_shapes=False)
        made = {name: torch.from_numpy(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()}
        return {**made, "labels": torch.from_numpy(self._task.labels(batch, where.width))}

    def start_epoch(self, epoch: int) -> None:
        if self._epoch_tokens:
            self._limit = self._epoch_tokens[min(epoch, len(self._epoch_tokens) - 1)]


class LengthGroups(Sampler[int]):
    """Random order in which neighbours have similar lengths; a function of seed and epoch alone, so a resumed run sees
    the same order."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    # not called set_epoch: accelerate would call that too, with 0 for the rest of the epoch in which a run is resumed
    def start_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = random.Random(f"{self._seed}/{self._epoch}")
        order = list(range(len(self._lengths)))
        generator.shuffle(order)
        size = self._batch_size * SORTED_BATCHES
        batches = []
        for start in range(0, len(order), size):
            chunk = sorted(order[start : start + size], key=lambda i: -self._lengths[i])
            batches += [chunk[i : i + self._batch_size] for i in range(0, len(chunk), self._batch_size)]
        full = [batch for batch in batches if len(batch) == self._batch_size]
        generator.shuffle(full)
        for batch in full + [batch for batch in batches if len(batch) < self._batch_size]:
            yield from batch


class EpochStart(TrainerCallback):
    """Tells collator and order which epoch begins, or is gone on with."""

    def __init__(self, *told: Collator | LengthGroups) -> None:
        self._told = told

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for one in self._told:
            one.start_epoch(math.floor(round(state.epoch or 0, 6)))


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


class _Trainer(Trainer):
    def __init__(self, *args: Any, count_correct: Any, order: LengthGroups, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._count_correct, self._order = count_correct, order

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._order

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        labels = inputs["labels"]  # label smoothing takes them out of the inputs
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if "logits" in outputs:
            right, total = self._count_correct(outputs["logits"].detach().float().cpu().numpy(), labels.cpu().numpy())
            vars(self.state)["hooper_correct"] = (right, total)  # read by TrainingProgress
        return (loss, outputs) if return_outputs else loss


def _arguments(recipe: Recipe, epochs: float, updates: int, run: RunFolder) -> TrainingArguments:
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and has_bf16())
    transformers.logging.set_verbosity_error()
    return TrainingArguments(
        output_dir=str(run.path),
        num_train_epochs=epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        warmup_steps=int(updates * recipe.warmup_share),
        weight_decay=recipe.weight_decay,
        label_smoothing_factor=recipe.label_smoothing,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        optim="adamw_torch_fused",
        save_strategy="steps",
        save_steps=max(1, math.ceil(updates / CHECKPOINTS)),
        save_total_limit=2,
        logging_steps=10,
        seed=recipe.seed,
        data_seed=recipe.seed,
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
    )


def _check_smoothing(recipe: Recipe, model: Any) -> None:
    if recipe.label_smoothing and getattr(model.config, "problem_type", None) == "multi_label_classification":
        raise InvalidSettings(f"label_smoothing is {recipe.label_smoothing}, but it is for single labels only; leave it out")

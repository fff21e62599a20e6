"""fine-tune: transformers' Trainer over rows that the production task encoded."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint

from app.core.manifest import Graph, Output
from app.core.types import Row
from app.runtime.layout import plan, to_tensors
from scripts.offline.progress import TrainingProgress
from scripts.offline.recipe import Recipe
from scripts.offline.tasks.base import OfflineTask, TrainingRow

CHECKPOINTS = 10
"""How many times a run saves its state; a crash costs at most this share of it."""
SORTED_BATCHES = 50
"""Rows are sorted by length within so many batches: little padding, and still a random order."""


@dataclass(frozen=True)
class Interrupted(Exception):
    """The person stopped the run; its state is saved."""

    checkpoint: Path


def fine_tune(
    recipe: Recipe, task: OfflineTask, model: Any, rows: Sequence[TrainingRow], run: Path, resume: bool
) -> dict[str, Any]:
    """Train the model in place.

    Returns:
        What the run cost: epochs, updates, seconds, final loss.

    Raises:
        Interrupted: Ctrl-C was pressed; a checkpoint was saved.
    """
    epochs = recipe.epochs or default_epochs(len(rows), recipe.batch_size, model.config.num_labels)
    updates = math.ceil(len(rows) / recipe.batch_size) * epochs
    collator = Collator(task, _padded_graph(model), recipe.epoch_tokens)
    trainer = _Trainer(
        model=model,
        args=_arguments(recipe, epochs, updates, run),
        train_dataset=rows,
        data_collator=collator,
        callbacks=[TrainingProgress(), collator.callback()],
        count_correct=task.num_correct,
    )
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    checkpoint = get_last_checkpoint(str(run)) if resume and run.is_dir() else None
    try:
        result = trainer.train(resume_from_checkpoint=checkpoint)
    except KeyboardInterrupt:
        trainer._save_checkpoint(trainer.model, trial=None)
        raise Interrupted(run / f"checkpoint-{trainer.state.global_step}") from None
    return {
        "epochs": epochs,
        "updates": result.global_step,
        "seconds": round(result.metrics["train_runtime"], 1),
        "loss": round(result.training_loss, 4),
        "precision": "bf16" if trainer.args.bf16 else "fp32",
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

    def callback(self) -> TrainerCallback:
        collator = self

        class _SetLimit(TrainerCallback):
            def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if collator._epoch_tokens:
                    epoch = min(round(state.epoch or 0, 6).__floor__(), len(collator._epoch_tokens) - 1)
                    collator._limit = collator._epoch_tokens[epoch]

        return _SetLimit()


class LengthGroups(Sampler[int]):
    """Random order in which neighbours have similar lengths; a function of seed and epoch alone, so a resumed run sees
    the same order."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
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


class _Trainer(Trainer):
    def __init__(self, *args: Any, count_correct: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._count_correct = count_correct
        self.correct = [0, 0]

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows: Any = self.train_dataset
        lengths = [one.row.num_tokens for one in rows]
        return LengthGroups(lengths, self.args.train_batch_size, self.args.seed)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if "labels" in inputs:
            logits = outputs["logits"].detach().float().cpu().numpy()
            right, total = self._count_correct(logits, inputs["labels"].cpu().numpy())
            self.state.hooper_correct = [right, total]  # type: ignore[attr-defined]
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)


def _arguments(recipe: Recipe, epochs: float, updates: float, run: Path) -> TrainingArguments:
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and has_bf16())
    transformers.logging.set_verbosity_error()
    return TrainingArguments(
        output_dir=str(run),
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


def _padded_graph(model: Any) -> Graph:
    inputs = ["input_ids", "attention_mask"]
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs.append("token_type_ids")
    return Graph(
        file="model.onnx",
        layout="padded",
        inputs=tuple(inputs),
        outputs=(Output(name="logits", axis="row"),),
        pad_token_id=model.config.pad_token_id or 0,
        storage="fp32",
    )

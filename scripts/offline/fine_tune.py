"""fine-tune: transformers' Trainer over rows that the production task encoded."""

from __future__ import annotations

import math
import signal
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from app.core.errors import InvalidSettings, SetupError
from app.core.manifest import Output
from scripts.offline.feed import Collator, EpochStart, LengthGroups
from scripts.offline.memory import keep_freed_memory
from scripts.offline.progress import PLAIN_LINES, TrainingProgress
from scripts.offline.recipe import Recipe
from scripts.offline.run_folder import Interrupted, RunFolder
from scripts.offline.tasks.base import OfflineTask, TrainingRow
from scripts.offline.torch_runner import head_logits, padded_graph

MICRO_BATCH_TOKENS = 4096
CHECKPOINTS = 10
"""How many times a run saves its state; a crash costs at most this share of it."""


def fine_tune(
    recipe: Recipe, task: OfflineTask, model: Any, rows: Sequence[TrainingRow], run: RunFolder, resume: bool
) -> dict[str, Any]:
    """Train the model in place. The trainer leaves it wrapped in its own precision: save it and load it again to use it.

    Returns:
        What the run cost: epochs, updates, seconds, final loss.

    Raises:
        Interrupted: Ctrl-C was pressed; what a resumed run goes on from is saved.
    """
    _check_smoothing(recipe, task, model)
    epochs = recipe.epochs or default_epochs(len(rows), recipe.batch_size, model.config.num_labels)
    updates = math.ceil(math.ceil(len(rows) / recipe.batch_size) * epochs)
    collator = Collator(
        task, padded_graph(model, Output(name="logits", axis=task.output_axis)), recipe.epoch_tokens, recipe.seed
    )
    lengths = [one.row.num_tokens for one in rows]
    longest = min(max(lengths), max(recipe.epoch_tokens, default=max(lengths)))
    at_once = micro_batch(recipe.batch_size, longest)
    order = LengthGroups(lengths, at_once, recipe.seed)
    keep_freed_memory()
    stop = StopOnSignal()
    trainer = _Trainer(
        model=model,
        args=_arguments(recipe, epochs, updates, at_once, run),
        train_dataset=rows,
        data_collator=collator,
        callbacks=[TrainingProgress(), EpochStart(collator, order), stop],
        task=task,
        order=order,
    )
    for unwanted in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(unwanted)  # type: ignore[no-untyped-call]
    checkpoint = run.last_checkpoint if resume else None
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
    if result.global_step < updates:
        raise SetupError(
            f"training ended after {result.global_step} of {updates} updates; the checkpoint in {run.path} does not fit this"
            " version, leave out --resume to start anew"
        )
    return {
        "epochs": epochs,
        "updates": result.global_step,
        "seconds": round(result.metrics["train_runtime"], 1),
        "loss": round(result.training_loss, 4),
        "precision": "bf16" if trainer.args.bf16 else "fp32",
        "resumed_after_updates": int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
    }


def micro_batch(batch_size: int, longest: int) -> int:
    """Rows of an update that are computed at once: few enough that a CPU's caches hold their activations (measured: half as
    fast again at 512 tokens), and a divisor of the batch size, so that the update is the mean over all of them."""
    fitting = [size for size in range(1, batch_size + 1) if batch_size % size == 0 and size * longest <= MICRO_BATCH_TOKENS]
    return max(fitting, default=1)


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
    def __init__(self, *args: Any, task: OfflineTask, order: LengthGroups, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._task, self._order = task, order
        if task.loss is not None:
            self.model_accepts_loss_kwargs = False  # the loss is a mean: accumulated ones are averaged by the trainer

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._order

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        labels = inputs["labels"]  # label smoothing takes them out of the inputs
        if self._task.loss is None:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        else:
            outputs = model(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
            loss = self._task.loss(outputs, labels)
        right, total = self._task.num_correct(head_logits(outputs).detach().float().cpu().numpy(), labels.cpu().numpy())
        vars(self.state)["hooper_correct"] = (right, total)  # read by TrainingProgress
        return (loss, outputs) if return_outputs else loss


def _arguments(recipe: Recipe, epochs: float, updates: int, at_once: int, run: RunFolder) -> TrainingArguments:
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and has_bf16())
    transformers.logging.set_verbosity_error()
    return TrainingArguments(
        output_dir=str(run.path),
        num_train_epochs=epochs,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=recipe.batch_size // at_once,
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
        logging_steps=min(10, max(1, updates // PLAIN_LINES)),
        seed=recipe.seed,
        data_seed=recipe.seed,
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
    )


def _check_smoothing(recipe: Recipe, task: OfflineTask, model: Any) -> None:
    multi = getattr(model.config, "problem_type", None) == "multi_label_classification"
    if recipe.label_smoothing and (multi or task.loss is not None):
        raise InvalidSettings(f"label_smoothing is {recipe.label_smoothing}, but it is for single labels only; leave it out")

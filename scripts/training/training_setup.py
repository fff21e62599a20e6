"""Everything that is decided before a run's first update: rows, order, batch sizes, the workload."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from app.core.errors import InvalidSettings
from scripts.export.layouts import padded_graph
from scripts.tasks.heads import HeadTask
from scripts.tasks.spec import TrainingRow, TrainingTask
from scripts.training.data_loader import Collator, LengthGroups
from scripts.training.objective import Objective
from scripts.training.pretrained import longest_input, usual_length
from scripts.training.processes import num_processes
from scripts.training.recipe import NEW, Recipe
from scripts.training.seq2seq.batches import Seq2SeqCollator, TokenBatches, collator_of
from scripts.training.seq2seq.objective import Seq2SeqObjective, shapes_of
from scripts.training.small_data import default_epochs as probe_epochs

MICRO_BATCH_TOKENS = 4096
COMPILED_WIDTH_STEP = 16
"""Tokens. A CPU's bf16 kernels are compiled for each shape of a batch: free widths made a training four times as long."""


@dataclass(frozen=True)
class TrainingSetup:
    """Rows, what they go through on their way to the model, and what is wanted of it."""

    recipe: Recipe
    task: TrainingTask
    rows: Sequence[TrainingRow]
    collator: Collator | Seq2SeqCollator
    order: LengthGroups | TokenBatches
    """Of rows; or of whole batches, each of which is an update."""
    objective: Objective | Seq2SeqObjective
    at_once: int
    """Rows that one process computes at once."""

    @property
    def updates_per_epoch(self) -> int:
        return self.updates_for(len(self.rows))

    @property
    def default_epochs(self) -> int:
        return self.epochs_for(len(self.rows))

    @property
    def updates_at_once(self) -> int:
        """Batches whose gradients are summed to one update."""
        return self.recipe.update_size // (self.at_once * num_processes())

    @property
    def rows_per_update(self) -> int:
        return self.recipe.update_size

    @property
    def workload(self) -> Workload:
        return Workload.of([self.length_of(row) for row in self.rows], self.recipe.epoch_tokens)

    def updates_for(self, num_rows: int) -> int:
        """Of an epoch of so many rows like these."""
        return math.ceil(num_rows / self.recipe.update_size)

    def epochs_for(self, num_rows: int) -> int:
        """Epochs of so many rows like these, where nobody says how many."""
        num_labels = self.objective.num_labels if isinstance(self.objective, Objective) else 0
        return chosen_epochs(self.recipe, num_rows, num_labels)

    def length_of(self, row: TrainingRow) -> int:
        """Tokens that the model reads of it."""
        return row.num_tokens


@dataclass(frozen=True)
class Seq2SeqSetup(TrainingSetup):
    """Of a model that writes: an update is a batch of pairs, which has so many tokens rather than so many rows."""

    num_written: int = 0
    """Tokens of the vocabulary."""
    shapes: Sequence[tuple[int, int]] = ()
    """Of the rows, as `shapes_of` gives them."""

    @property
    def updates_per_epoch(self) -> int:
        return len(self.order)

    @property
    def updates_at_once(self) -> int:
        return 1

    @property
    def rows_per_update(self) -> int:
        """On average."""
        return round(len(self.rows) / self.updates_per_epoch)

    def updates_for(self, num_rows: int) -> int:
        tokens = sum(map(max, self.shapes)) * num_rows / len(self.rows)
        return math.ceil(tokens / batch_tokens(self.recipe, tokens, self.num_written))

    def epochs_for(self, num_rows: int) -> int:
        updates = self.updates_per_epoch if num_rows == len(self.rows) else self.updates_for(num_rows)
        return seq2seq_epochs(self.recipe, updates)

    def length_of(self, row: TrainingRow) -> int:
        """Of its source and its target."""
        return row.row.num_tokens + len(row.label)


def set_up_training(recipe: Recipe, task: TrainingTask, model: Any, rows: Sequence[TrainingRow]) -> TrainingSetup:
    """
    Raises:
        InvalidSettings: the recipe asks for what this model, this data or so many processes cannot do.
    """
    if not isinstance(task, HeadTask):
        return _set_up_seq2seq(recipe, task, model, rows)
    objective = Objective(recipe, task, model.config, rows)
    graph = padded_graph(model, task.output_axis)
    step = COMPILED_WIDTH_STEP if uses_bf16(recipe) and not torch.cuda.is_available() else 1
    collator = Collator(task, graph, recipe.epoch_tokens, recipe.seed, step, longest_input(model))
    lengths = [row.num_tokens for row in rows]
    at_once = _at_once(recipe, _cropped(lengths, recipe), num_processes(), task.compares_examples)
    return TrainingSetup(recipe, task, rows, collator, LengthGroups(lengths, at_once, recipe.seed), objective, at_once)


UPDATES_PER_EPOCH = 50
FEWEST_BATCH_TOKENS, MOST_BATCH_TOKENS = 256, 4096
LOGITS = 2**28
"""Numbers that a batch gives at most, one for each of its tokens and each of the vocabulary's: 1 GiB of them in fp32."""


def _set_up_seq2seq(recipe: Recipe, task: TrainingTask, model: Any, rows: Sequence[TrainingRow]) -> Seq2SeqSetup:
    if num_processes() > 1:
        raise InvalidSettings(f"a model for {task.name} is trained by one process, not by {num_processes()}")
    objective, shapes, num_written = Seq2SeqObjective(recipe), shapes_of(model, rows), vocabulary_size(model)
    tokens = batch_tokens(recipe, sum(map(max, shapes)), num_written)
    order = TokenBatches(shapes, tokens, recipe.batch_size, recipe.seed)
    collator = collator_of(model, longest_input(model))
    return Seq2SeqSetup(recipe, task, rows, collator, order, objective, 1, num_written, shapes)


def vocabulary_size(model: Any) -> int:
    """Tokens that a model may write."""
    return int(model.get_output_embeddings().weight.shape[0])


def batch_tokens(recipe: Recipe, num_tokens: float, num_written: int) -> int:
    """Rows x width of an update: as the recipe says, or so many that an epoch has some 50 updates.

    Args:
        num_tokens: of all rows, each by the longer of source and target.
        num_written: tokens of the vocabulary.
    """
    if recipe.batch_tokens:
        return recipe.batch_tokens
    wanted = max(FEWEST_BATCH_TOKENS, round(num_tokens / UPDATES_PER_EPOCH))
    return min(wanted, MOST_BATCH_TOKENS, max(1, LOGITS // num_written))


NEW_UPDATES, PRETRAINED_UPDATES = 2000, 600
NEW_EPOCHS, PRETRAINED_EPOCHS = (8, 60), (2, 12)


def seq2seq_epochs(recipe: Recipe, updates_per_epoch: int) -> int:
    """Enough epochs for 600 updates of a pretrained model, or 2,000 of a new one; within bounds."""
    is_new = recipe.base_model == NEW
    updates, (fewest, most) = (NEW_UPDATES, NEW_EPOCHS) if is_new else (PRETRAINED_UPDATES, PRETRAINED_EPOCHS)
    return min(most, max(fewest, round(updates / updates_per_epoch)))


def uses_bf16(recipe: Recipe) -> bool:
    return recipe.precision == "bf16" or (recipe.precision == "auto" and has_bf16())


def has_bf16() -> bool:
    """Whether this machine multiplies bf16 in hardware."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    cpu: Any = torch.cpu
    return bool(cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported())


def micro_batch(batch_size: int, lengths: Sequence[int]) -> int:
    """Rows of an update that are computed at once: few enough that a CPU's caches hold their activations (measured: half as
    fast again at 512 tokens), and a divisor of the batch size, so that the update is the mean over all of them.

    Nearly all rows decide: a few long texts among short ones may take twice the room, and do not make all updates small.
    """
    longest = max(lengths)
    usual = min(longest, usual_length(lengths))
    limit = min(MICRO_BATCH_TOKENS // usual, 2 * MICRO_BATCH_TOKENS // longest)
    return max(size for size in range(1, batch_size + 1) if batch_size % size == 0 and size <= max(1, limit))


def chosen_epochs(recipe: Recipe, num_rows: int, num_labels: int) -> int:
    """Epochs where nobody says how many; the recipe's head is decided."""
    if recipe.head == "probe":
        return probe_epochs(num_rows, recipe.update_size)
    return default_epochs(num_rows, recipe.update_size, num_labels)


def default_epochs(num_rows: int, batch_size: int, num_labels: int) -> int:
    """Enough epochs for 600 updates, or 30 per label if that is more; between 2 and 12."""
    per_epoch = max(1, math.ceil(num_rows / batch_size))
    return min(12, max(2, round(max(600, 30 * num_labels) / per_epoch)))


def _cropped(lengths: Sequence[int], recipe: Recipe) -> list[int]:
    """Tokens of the rows in the longest epoch."""
    limit = max(recipe.epoch_tokens, default=max(lengths))
    return [min(length, limit) for length in lengths]


def _at_once(recipe: Recipe, lengths: Sequence[int], processes: int, is_whole: bool) -> int:
    if recipe.update_size % processes:
        raise InvalidSettings(f"batch_size is {recipe.update_size}; {processes} processes need a multiple of their number")
    share = recipe.update_size // processes
    if not recipe.micro_batch:
        return share if is_whole else micro_batch(share, lengths)
    if share % recipe.micro_batch:
        raise InvalidSettings(
            f"micro_batch is {recipe.micro_batch}: each of {processes} processes has {share} texts of an update, which must be"
            " a multiple of it"
        )
    return recipe.micro_batch


@dataclass(frozen=True)
class Workload:
    """Tokens of each epoch, the last of which stands for all later ones; padding is left out."""

    tokens: Sequence[int]

    @classmethod
    def of(cls, lengths: Sequence[int], epoch_tokens: Sequence[int]) -> Workload:
        """
        Args:
            lengths: tokens of each row.
            epoch_tokens: longest row of each epoch; none: as they are.
        """
        return cls([sum(min(length, limit) for length in lengths) for limit in (epoch_tokens or [max(lengths)])])

    def until(self, epoch: float) -> float:
        """Tokens read from the beginning until this much of the epochs is done."""
        whole = math.floor(epoch)
        return sum(map(self._of, range(whole))) + (epoch - whole) * self._of(whole)

    def epochs_for(self, tokens: float) -> float:
        """Epochs, in part too, in which so many tokens are read."""
        epoch = 0
        while tokens >= self._of(epoch) and epoch < len(self.tokens):
            tokens -= self._of(epoch)
            epoch += 1
        return epoch + tokens / self._of(epoch)

    def _of(self, epoch: int) -> int:
        return self.tokens[min(epoch, len(self.tokens) - 1)]

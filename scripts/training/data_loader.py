"""How rows reach the trainer: in which order, cropped to which length, padded into which tensors."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback

from app.core.manifest import Graph
from app.runtime.layout import plan, to_tensors
from scripts.tasks.heads import HeadTask
from scripts.tasks.spec import TrainingRow

LABELLED = "is_labelled"
"""Of a batch with a teacher's answers, which rows have labels beside them."""
SORTED_BATCHES = 100
"""Rows are sorted by length within so many batches: little padding, and still a random order."""


class Collator:
    """Rows to a padded batch of torch tensors, cropped to the epoch's limit.

    Args:
        width_step: batches are as wide as a multiple of it, at most `max_width` tokens: for a machine that compiles each width.
    """

    def __init__(
        self,
        task: HeadTask,
        graph: Graph,
        epoch_tokens: Sequence[int],
        seed: int = 0,
        width_step: int = 1,
        max_width: int = 0,
    ) -> None:
        self._task, self._graph, self._epoch_tokens, self._seed = task, graph, epoch_tokens, seed
        self._width_step, self._max_width = width_step, max_width
        self._epoch = 0
        self.num_tokens = 0
        """Tokens that were fed until now."""
        self._num_places = 0

    def __call__(self, batch: Sequence[TrainingRow]) -> dict[str, torch.Tensor]:
        batch = [self._cropped(entry) for entry in batch]
        rows = [row for entry in batch for row in entry.rows]
        layout = plan([row.num_tokens for row in rows], "padded", fixed_shapes=False)
        rounded = math.ceil(layout.width / self._width_step) * self._width_step
        layout = replace(layout, width=max(layout.width, min(rounded, self._max_width)))
        tensors = to_tensors(rows, layout, self._graph, fixed_shapes=False)
        self.num_tokens += sum(row.num_tokens for row in rows)
        self._num_places += len(rows) * layout.width
        arrays = {name: torch.from_numpy(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()}
        taught = [entry.teacher for entry in batch if entry.teacher is not None]
        if taught:
            arrays["teacher_logits"] = torch.from_numpy(_padded(taught, layout.width))
            arrays[LABELLED] = torch.tensor([entry.is_labelled for entry in batch])
        return {**arrays, "labels": torch.from_numpy(self._task.labels(batch, layout.width))}

    def forget(self) -> None:
        """Count from here."""
        self.num_tokens = self._num_places = 0

    @property
    def padding_share(self) -> float:
        """Share of what was fed that is padding."""
        return 1 - self.num_tokens / self._num_places if self._num_places else 0.0

    def start_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def _cropped(self, row: TrainingRow) -> TrainingRow:
        if not self._epoch_tokens:
            return row
        limit = self._epoch_tokens[min(self._epoch, len(self._epoch_tokens) - 1)]
        if row.longest.num_tokens <= limit:
            return row
        # a function of seed, epoch and row alone, so that a resumed run crops alike
        generator = random.Random(hash((self._seed, self._epoch, *row.row.input_ids)))
        if row.teacher is None or row.teacher.ndim == 1:
            return replace(self._task.crop(row, limit, generator), teacher=row.teacher, is_labelled=row.is_labelled)
        # cut with its tokens' numbers in place of their ids: so it shows which of them stay
        numbered = replace(row, row=replace(row.row, input_ids=range(row.row.num_tokens)))
        cut = self._task.crop(numbered, limit, generator)
        kept = list(cut.row.input_ids)
        ids = [row.row.input_ids[place] for place in kept]
        return replace(row, row=replace(cut.row, input_ids=ids), label=cut.label, teacher=row.teacher[kept])


def _padded(taught: Sequence[np.ndarray], width: int) -> np.ndarray:
    """(rows, labels), or (rows, width, labels) where each token has logits."""
    if taught[0].ndim == 1:
        return np.stack(taught)
    padded = np.zeros((len(taught), width, taught[0].shape[-1]), np.float32)
    for line, logits in enumerate(taught):
        padded[line, : len(logits)] = logits
    return padded


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
        if self._epoch == 0 and full:  # a run that needs more memory than there is shall end at once
            full.insert(0, full.pop(max(range(len(full)), key=lambda i: self._lengths[full[i][0]])))
        for batch in full + [batch for batch in batches if len(batch) < self._batch_size]:
            yield from batch


class EpochListener(Protocol):
    """What differs from epoch to epoch."""

    def start_epoch(self, epoch: int) -> None: ...


class EpochStart(TrainerCallback):
    """Tells collator and order which epoch begins, or is gone on with."""

    def __init__(self, *listeners: EpochListener) -> None:
        self._listeners = listeners

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for entry in self._listeners:
            entry.start_epoch(math.floor(round(state.epoch or 0, 6)))

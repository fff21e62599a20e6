"""How rows reach the trainer: in which order, cropped to which length, padded into which tensors."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback

from app.core.manifest import Graph
from app.core.types import Row
from app.runtime.layout import plan, to_tensors
from scripts.offline.tasks.base import OfflineTask, TrainingRow

SORTED_BATCHES = 50
"""Rows are sorted by length within so many batches: little padding, and still a random order."""


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

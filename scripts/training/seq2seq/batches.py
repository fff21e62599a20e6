"""How pairs of source and target reach the trainer: batches of so many tokens, and the tensors that they are padded into."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from scripts.tasks.spec import TrainingRow

WIDTH_STEP = 8
"""Widths are multiples of it. A CPU's bf16 kernels are compiled for each shape of a batch: with free shapes a run from nothing
took four times as long."""
IGNORED_LABEL = -100
"""What torch's cross entropy leaves out: padding of targets."""


def rounded(length: int, limit: int = 0) -> int:
    """The width of a tensor that holds so many tokens; at most `limit`, where there is one."""
    width = math.ceil(max(1, length) / WIDTH_STEP) * WIDTH_STEP
    return max(length, min(width, limit)) if limit else width


class TokenBatches(Sampler[list[int]]):
    """Batches of pairs that are about as long, in random order; a function of seed and epoch alone, so that a resumed run sees
    the same ones. How many rows a batch has follows from its width alone: there are few shapes.

    A batch of width `w`, in tokens of the longer of source and target, has `max_tokens // w` rows. What fills none of them goes
    to the next wider ones; only an epoch's last batch may have fewer rows.
    """

    batch_size = None
    drop_last = False

    def __init__(self, shapes: Sequence[tuple[int, int]], max_tokens: int, max_rows: int, seed: int) -> None:
        """
        Args:
            shapes: tokens of source and target of each row.
            max_tokens: rows x width of a batch.
            max_rows: of a batch; 0: any number.
            seed: of the order.
        """
        self._shapes = [(rounded(source), rounded(target)) for source, target in shapes]
        self._max_tokens, self._max_rows, self._seed = max_tokens, max_rows, seed
        self._epoch = 0
        self._num_batches = len(self._batches(random.Random(0)))

    def start_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        """Batches of an epoch, which are as many in each."""
        return self._num_batches

    def __iter__(self) -> Iterator[list[int]]:
        generator = random.Random(f"{self._seed}/{self._epoch}")
        batches = self._batches(generator)
        generator.shuffle(batches)
        if self._epoch == 0:  # a run that needs more memory than there is shall end at once
            batches.insert(0, batches.pop(max(range(len(batches)), key=lambda number: self._width(batches[number]))))
        yield from batches

    def num_rows(self, width: int) -> int:
        """Rows of a batch of this width."""
        fitting = max(1, self._max_tokens // width)
        return min(fitting, self._max_rows) if self._max_rows else fitting

    def _width(self, batch: Sequence[int]) -> int:
        return max(max(self._shapes[index]) for index in batch)

    def _batches(self, generator: random.Random) -> list[list[int]]:
        by_width: dict[int, list[int]] = defaultdict(list)
        for index, shape in enumerate(self._shapes):
            by_width[max(shape)].append(index)
        batches: list[list[int]] = []
        rest: list[int] = []
        for width in sorted(by_width):
            rows = by_width[width]
            generator.shuffle(rows)
            rows = rest + rows
            size = self.num_rows(width)
            num_placed = len(rows) // size * size
            # the shorter sides of a batch are alike, too
            placed = sorted(rows[:num_placed], key=lambda index: min(self._shapes[index]))
            batches += [placed[start : start + size] for start in range(0, num_placed, size)]
            rest = rows[num_placed:]
        return [*batches, *([rest] if rest else [])]


class Seq2SeqCollator:
    """Rows, whose labels are the target's tokens, to padded tensors."""

    def __init__(self, pad_token_id: int, max_width: int = 0) -> None:
        """
        Args:
            pad_token_id: fills sources up.
            max_width: tokens that the model reads at most; 0: any number.
        """
        self._pad, self._max_width = pad_token_id, max_width
        self.num_tokens = 0
        """Tokens of sources and targets that were fed until now."""
        self._num_places = 0

    def __call__(self, batch: Sequence[TrainingRow]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (rows, source tokens), `labels` (rows, target tokens)."""
        sources, targets = [entry.row.input_ids for entry in batch], [entry.label for entry in batch]
        self.num_tokens += sum(map(len, sources)) + sum(map(len, targets))
        return self._tensors(sources, targets)

    def forget(self) -> None:
        """Count from here."""
        self.num_tokens = self._num_places = 0

    @property
    def padding_share(self) -> float:
        """Share of what was fed that is padding."""
        return 1 - self.num_tokens / self._num_places if self._num_places else 0.0

    def start_epoch(self, epoch: int) -> None:
        """All epochs are alike."""

    def _tensors(self, sources: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        input_ids, mask = self._padded(sources, self._pad)
        targets, _ = self._padded(labels, IGNORED_LABEL)
        self._num_places += input_ids.size + targets.size
        arrays = {"input_ids": input_ids, "attention_mask": mask, "labels": targets}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _padded(self, sequences: Sequence[Sequence[int]], filler: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and mask, (rows, width)."""
        width = rounded(max(map(len, sequences)), self._max_width)
        tokens = np.full((len(sequences), width), filler, np.int64)
        mask = np.zeros_like(tokens)
        for line, sequence in enumerate(sequences):
            tokens[line, : len(sequence)] = sequence
            mask[line, : len(sequence)] = 1
        return tokens, mask


class ContinuationCollator(Seq2SeqCollator):
    """The same for a model without an encoder, which reads a prompt and what continues it in one row."""

    def __call__(self, batch: Sequence[TrainingRow]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and `labels`, (rows, tokens): the label of a token is the next one, and of the prompt's
        tokens only the last has one."""
        read = [[*entry.row.input_ids, *entry.label[:-1]] for entry in batch]
        labels = [[IGNORED_LABEL] * (entry.row.num_tokens - 1) + list(entry.label) for entry in batch]
        self.num_tokens += sum(map(len, read))
        return self._tensors(read, labels)

    @property
    def padding_share(self) -> float:
        return 1 - 2 * self.num_tokens / self._num_places if self._num_places else 0.0


def collator_of(model: Any, max_width: int = 0) -> Seq2SeqCollator:
    """For a model of transformers; `max_width` as for the collators."""
    kind = Seq2SeqCollator if model.config.is_encoder_decoder else ContinuationCollator
    return kind(pad_of(model.config), max_width)


def pad_of(config: Any) -> int:
    """The token that fills rows up, which is masked: any, where a config of transformers names none."""
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    return next((int(number) for number in (config.pad_token_id, *ends) if number is not None), 0)

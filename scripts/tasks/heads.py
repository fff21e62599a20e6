"""Tasks whose models are an encoder with a head, offline: labels beside padded rows, and what a checkpoint calls them."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.core.errors import InvalidSettings
from scripts.tasks.spec import TrainingRow, TrainingTask

if TYPE_CHECKING:  # imported when a loss is computed: judging a published graph needs no torch
    import torch

IGNORED = -1.0
"""Label of a token that takes no part in the loss."""


class HeadTask(TrainingTask):
    """The training half of a task whose models are an encoder with a head: rows are padded with labels beside them."""

    has_own_loss = False
    """Whether `loss` is used in place of the loss of the transformers model."""
    compares_examples = False
    """Whether the loss compares the examples of a batch with each other: then all of an update are computed at once, unless the
    recipe says another `micro_batch`."""

    def loss(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """From the model's outputs and the batch's labels to a scalar, where `has_own_loss`."""
        raise NotImplementedError

    def teacher_loss(self, outputs: Any, labels: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """How far the model is from a teacher, where the task `is_teachable` and `has_own_loss`: a scalar, 0 where they agree,
        whose gradients have the size of those of `loss` at any temperature.

        Args:
            outputs: of the model.
            labels: of the batch, which say where there is something to learn.
            teacher: its logits, as the model's; 0 at padding.
            temperature: both logits are divided by it.
        """
        raise NotImplementedError

    @abstractmethod
    def labels(self, rows: Sequence[TrainingRow], width: int) -> np.ndarray:
        """Labels of a padded batch of this many tokens, as the head's loss takes them."""

    @abstractmethod
    def crop(self, row: TrainingRow, limit: int, generator: random.Random) -> TrainingRow:
        """A longer row with its label, cut to `limit` tokens for an epoch of short rows."""

    @abstractmethod
    def num_correct(self, logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
        """How many of how many decisions in a batch are right: for the progress bar only."""


def named_head(labels: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` for a head with an output for each of these labels."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def checkpoint_labels(config: Any, labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """The labels of a checkpoint, and notes on them.

    Args:
        config: of transformers.
        labels: that a person named; none: the checkpoint's own.

    Raises:
        InvalidSettings: there are not as many different ones as outputs.
    """
    names = list(labels) or [str(config.id2label[index]) for index in range(config.num_labels)]
    if len(names) != config.num_labels or len(set(names)) != len(names):
        raise InvalidSettings(f"{config.num_labels} different labels are needed, not {', '.join(names)}")
    notes = []
    if all(name.startswith("LABEL_") for name in names):
        notes.append(f"the checkpoint does not name its labels: {', '.join(names)}; say --labels NAME … to name them")
    return names, notes

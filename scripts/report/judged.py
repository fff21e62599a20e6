"""Judged: a version's answers to texts whose right answers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core.types import TaskName
from scripts.tasks.spec import TrainingTask
from scripts.training.data import Example
from scripts.training.evaluation import Predictions, RowRunner


@dataclass(frozen=True)
class Judged:
    """What a report is made from."""

    name: str
    """Of the model, with its version where it has one."""
    task_name: TaskName
    options: Mapping[str, Any]
    """What the manifest says to the task: labels, temperature, …"""
    offline: TrainingTask
    task: Any
    """The production task that read the answers."""
    examples: Sequence[Example]
    predictions: Predictions
    runner: RowRunner
    """What runs the model: explanations ask it again."""
    notes: Sequence[str] = field(default=())
    """What was found out about the data."""

    @property
    def lengths(self) -> list[int]:
        """Tokens that the model read of each item."""
        return [one.num_tokens for one in self.predictions.encoded]

"""What differs between tasks offline: reading records, the head and its labels, metrics, sections of card and report.

One module or folder per task, with a `SPEC` that the task's `TaskSpec.training` names; nothing else below `scripts` names one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from app.tasks.registry import environment_tasks

if TYPE_CHECKING:
    from scripts.tasks.spec import TrainingTask


def task_names() -> tuple[str, ...]:
    """The tasks that can be trained; the first is what is trained where none is named."""
    return tuple(spec.name for spec in environment_tasks().values() if spec.training and spec.is_trained)


def published_names() -> tuple[str, ...]:
    """The tasks whose models can be published: those that can be trained, and those that others train."""
    return tuple(spec.name for spec in environment_tasks().values() if spec.training)


def training_task(name: str) -> TrainingTask:
    """The training half of a task."""
    return training_tasks()[name]


@cache  # here and not at import: some of them need packages that only training installs
def training_tasks() -> Mapping[str, TrainingTask]:
    """The training halves of all tasks, those of installed packages and those that only publish too, by the task's name."""
    return MappingProxyType({spec.name: _load(spec.training) for spec in environment_tasks().values() if spec.training})


def current_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's keys as they are called today: in release 0.1.0 regression was a problem type of text classification."""
    if values.get("problem_type") == "regression":
        return {**values, "task": "text-regression", "problem_type": "auto"}
    return dict(values)


def _load(place: str) -> TrainingTask:
    module, _, name = place.partition(":")
    spec: TrainingTask = getattr(import_module(module), name)
    return spec

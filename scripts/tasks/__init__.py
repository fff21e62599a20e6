"""What differs between tasks offline: reading records, the head and its labels, metrics, sections of card and report.

One module or folder per task, with a `SPEC`; nothing else below `scripts` names a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.tasks.spec import TrainingTask

SPECS = {
    "text-classification": "scripts.tasks.text_classification:SPEC",
    "text-regression": "scripts.tasks.text_regression:SPEC",
    "question-answering": "scripts.tasks.question_answering:SPEC",
    "summarization": "scripts.tasks.extractive_summarization:SPEC",
}


def training_task(name: str) -> TrainingTask:
    """The training half of a task."""
    return training_tasks()[name]


@cache  # here and not at import: some of them need packages that only training installs
def training_tasks() -> Mapping[str, TrainingTask]:
    """The training halves of all tasks, by the task's name."""
    return MappingProxyType({name: _load(place) for name, place in SPECS.items()})


def _load(place: str) -> TrainingTask:
    module, _, name = place.partition(":")
    spec: TrainingTask = getattr(import_module(module), name)
    return spec

"""The tasks that can be trained."""

from __future__ import annotations

from app.core.types import TaskName
from scripts.offline.tasks.base import OfflineTask
from scripts.offline.tasks.text_classification import OfflineTextClassification


def offline_task(name: TaskName) -> OfflineTask:
    return _TASKS[name]


_TASKS: dict[str, OfflineTask] = {"text-classification": OfflineTextClassification()}

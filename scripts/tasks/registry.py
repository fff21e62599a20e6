"""The tasks that can be trained."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.types import TaskName
from scripts.tasks.base import OfflineTask
from scripts.tasks.question_answering import OfflineQuestionAnswering
from scripts.tasks.summarization import OfflineSummarization
from scripts.tasks.text_classification import OfflineTextClassification


def offline_task(name: TaskName) -> OfflineTask:
    return OFFLINE_TASKS[name]


OFFLINE_TASKS: Mapping[TaskName, OfflineTask] = {
    "text-classification": OfflineTextClassification(),
    "question-answering": OfflineQuestionAnswering(),
    "summarization": OfflineSummarization(),
}

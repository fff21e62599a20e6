"""A report as plain values: what its json holds, and all that its page shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.core.types import TaskName
from scripts.report import classification, numbers, others
from scripts.report.judged import Judged

SECTIONS: Mapping[TaskName, Callable[[Judged], dict[str, Any]]] = {
    "text-classification": classification.sections,
    "question-answering": others.answers,
    "summarization": others.summaries,
}


def build(judged: Judged, about: Mapping[str, str]) -> dict[str, Any]:
    """Measure everything.

    Args:
        judged: a model's answers beside the right ones.
        about: what the page says of the model, by what it is called there.
    """
    is_number = judged.options.get("problem_type") == "regression"
    sections = numbers.sections if is_number else SECTIONS[judged.task_name]
    answers = judged.predictions.answers
    figures = judged.offline.evaluate(answers, judged.examples, judged.options)
    return {
        "model": judged.name,
        "task": judged.task_name,
        "about": dict(about),
        "notes": list(judged.notes),
        **({"temperature": judged.options["temperature"]} if "temperature" in judged.options else {}),
        **figures,
        **sections(judged),
    }


def top_losses(judged: Judged, most: int) -> list[dict[str, Any]]:
    """The worst errors alone, with their texts, without explanations."""
    if judged.options.get("problem_type") == "regression":
        return numbers.worst(judged, most, explained=0)
    if judged.task_name == "text-classification":
        return classification.worst(judged, classification.Scored.of(judged), most, explained=0)
    return list(
        {"question-answering": others.answers, "summarization": others.summaries}[judged.task_name](judged, most)["worst"]
    )

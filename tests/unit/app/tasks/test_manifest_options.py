"""Options of a manifest: nonsense is refused with the option's name, whatever the task."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from app.core.errors import InvalidArtefact
from app.core.types import TaskName
from app.tasks.manifest_options import checked_options
from app.tasks.registry import installed_tasks

TASKS = installed_tasks()
NEEDED: dict[TaskName, dict[str, Any]] = {
    "text-classification": {"labels": ["bad", "good"]},
    "text-regression": {"labels": ["score"]},
    "token-classification": {"labels": ["O", "B-PER"]},
    "text-ranking": {"labels": ["relevance"]},
    "feature-extraction": {"dimensions": 8},
}
OPTIONS = [(task, name) for task, kind in TASKS.items() for name in list(inspect.signature(kind.task).parameters)[1:]]
NONSENSE = [{"x": [1]}, [[1]], [None], float("nan"), float("-inf")]
NO_NUMBERS = ["x", "1", True, "", -1, 1e-320, None, {}, [], "\n\x1b[2J"]


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
@pytest.mark.parametrize(("task", "name"), OPTIONS)
def test_a_value_that_no_option_has_is_refused_by_its_name(task: TaskName, name: str, value: Any) -> None:
    options = {**NEEDED.get(task, {}), name: value}
    with pytest.raises(InvalidArtefact) as refused:
        checked_options(TASKS[task].task, options)
    assert refused.value.detail.startswith(f"task_options.{name}")
    assert "\n" not in refused.value.detail


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0], ids=repr)
@pytest.mark.parametrize("task", ["text-classification", "question-answering"])
def test_a_temperature_is_a_number_above_zero(task: TaskName, value: Any) -> None:
    with pytest.raises(InvalidArtefact, match=r"^task_options\.temperature: "):
        checked_options(TASKS[task].task, {**NEEDED.get(task, {}), "temperature": value})


@pytest.mark.parametrize("task", TASKS)
def test_what_is_right_is_passed_on_and_the_rest_is_left_to_the_task(task: TaskName) -> None:
    kind, needed = TASKS[task].task, NEEDED.get(task, {})
    assert checked_options(kind, needed) == needed
    if "temperature" in inspect.signature(kind).parameters:
        assert checked_options(kind, {**needed, "temperature": 2}) == {**needed, "temperature": 2.0}


def test_an_option_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidArtefact, match=r"^task_options\.labels: Field required"):
        checked_options(TASKS["text-classification"].task, {})

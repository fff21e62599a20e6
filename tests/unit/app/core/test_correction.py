"""Corrections: the last word on an item, and the row that training reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.core.correction import Correction, latest
from app.core.types import TaskName
from app.tasks.registry import installed_tasks
from tests.support.corrections import CORRECTION


def test_the_last_correction_of_an_item_is_the_word_on_it() -> None:
    first = replace(CORRECTION, right={"label": "good"}, id=1)
    other = replace(CORRECTION, item={"text": "another"}, id=2)
    last = replace(CORRECTION, right={"label": "bad"}, id=3)
    found = latest([first, other, last])
    assert [correction.id for correction in found.corrections] == [2, 3]
    assert (found.num_repeated, found.num_conflicting) == (1, 1)


def test_saying_the_same_twice_is_no_conflict() -> None:
    found = latest([CORRECTION, CORRECTION])
    assert (len(found.corrections), found.num_repeated, found.num_conflicting) == (1, 1, 0)


def test_a_pair_is_another_item_than_its_first_text() -> None:
    pair = replace(CORRECTION, item={**CORRECTION.item, "text_pair": "film"})
    assert len(latest([CORRECTION, pair]).corrections) == 2


@pytest.mark.parametrize(
    ("task", "item", "right", "row"),
    [
        ("text-classification", {"text": "a"}, {"label": "x"}, {"text": "a", "label": "x"}),
        ("text-classification", {"text": "a"}, {"labels": ["x", "y"]}, {"text": "a", "label": ["x", "y"]}),
        (
            "question-answering",
            {"question": "q", "context": "a b"},
            {"answer": "b", "start": 2},
            {"question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": [2]}},
        ),
        (
            "question-answering",
            {"question": "q", "context": "a b"},
            {"answer": "", "start": 0},
            {"question": "q", "context": "a b", "answers": {"text": [], "answer_start": []}},
        ),
        ("summarization", {"text": "A. B."}, {"sentences": ["A.", "B."]}, {"text": "A. B.", "summary": "A. B."}),
    ],
)
def test_a_correction_is_a_row_in_the_form_of_the_tasks_data(
    task: TaskName, item: dict[str, Any], right: dict[str, Any], row: dict[str, Any]
) -> None:
    made: Correction = replace(CORRECTION, task=task, item=item, right=right)
    assert installed_tasks().training_row(made) == row

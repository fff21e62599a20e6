"""A teacher answers in the order of the student's labels, once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.core.errors import InvalidSettings
from app.core.types import Row
from app.tasks.text_classification.task import ClassificationItem
from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training.data import Example
from scripts.training.distillation import open_teacher, with_teacher_logits

TASK = TextClassificationTraining()
OPTIONS = {"labels": ["a", "b", "c"], "problem_type": "single_label_classification"}
EXAMPLES = [
    Example(ClassificationItem(text), label, "s", "w") for text, label in (("the good film", "a"), ("was very bad", "b"))
]
ROWS = [TrainingRow(Row([2, 3], [0, 0]), 0), TrainingRow(Row([2, 4, 3], [0, 0, 0]), 1)]


@pytest.fixture
def teacher_folder(tiny_model: Any, base_folder: Path, tmp_path: Path) -> Path:
    """A classifier that transformers saved, with its tokenizer, whose labels stand in an order of its own."""
    folder = tmp_path / "teacher"
    shutil.copytree(base_folder, folder)
    tiny_model("Bert", id2label={0: "c", 1: "a", 2: "b"}).save_pretrained(folder)
    return folder


def test_answers_come_in_the_order_of_the_students_labels(teacher_folder: Path) -> None:
    teacher = open_teacher(str(teacher_folder), TASK, OPTIONS)
    found = teacher.answers(EXAMPLES)
    ids = torch.tensor([list(row.row.input_ids) for row in TASK.training_rows(EXAMPLES, teacher.tokenizer, OPTIONS)])
    with torch.no_grad():
        wanted = teacher.model(input_ids=ids)["logits"][:, [1, 2, 0]]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_teacher_that_reads_a_text_at_its_end_answers_texts_of_different_lengths_as_alone(save: Any) -> None:
    for family in ("GPT2", "XLNet"):
        folder = save(family, family, id2label={0: "a", 1: "b", 2: "c"}, pad_token_id=None if family == "GPT2" else 0)
        teacher = open_teacher(str(folder), TASK, OPTIONS)
        texts = [replace(EXAMPLES[0], item=ClassificationItem(text)) for text in ("good", "the film was good", "a bad plot")]
        alone = np.concatenate([teacher.answers([text]) for text in texts])
        np.testing.assert_allclose(teacher.answers(texts), alone, atol=1e-4)


def test_a_finished_run_teaches_with_the_tokenizer_of_its_base_model(
    teacher_folder: Path, base_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "large"
    run.mkdir(parents=True)
    shutil.copytree(teacher_folder, run / "final", ignore=shutil.ignore_patterns("tokenizer*"))
    (run / "recipe.json").write_text(json.dumps({"recipe": {"base_model": str(base_folder)}}))
    assert open_teacher(str(run), TASK, OPTIONS).answers(EXAMPLES).shape == (2, 3)
    (run / "recipe.json").write_text("{}")
    with pytest.raises(InvalidSettings, match="does not say which base model"):
        open_teacher(str(run), TASK, OPTIONS)


@pytest.mark.parametrize(
    ("labels", "said"), [(["a", "b", "d"], "it knows 'c', the data does not"), (["a", "b", "c", "d"], "it lacks 'd'")]
)
def test_other_labels_are_refused(labels: list[str], said: str, teacher_folder: Path) -> None:
    with pytest.raises(InvalidSettings, match=said):
        open_teacher(str(teacher_folder), TASK, {**OPTIONS, "labels": labels})


def test_a_teacher_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="cannot be loaded"):
        open_teacher(str(tmp_path), TASK, OPTIONS)


def test_it_is_asked_once_for_a_run_that_goes_on(tmp_path: Path) -> None:
    asked = []

    def ask() -> np.ndarray:
        asked.append(True)
        return np.array([[1.0, 2, 3], [4, 5, 6]], dtype=np.float32) * len(asked)

    file = tmp_path / "run" / "teacher.npy"
    first = with_teacher_logits(ROWS, ask, file)
    again = with_teacher_logits(ROWS, ask, file, resume=True)
    assert len(asked) == 1
    assert [entry.teacher.tolist() for entry in again if entry.teacher is not None] == [[1, 2, 3], [4, 5, 6]]
    assert [(entry.row, entry.label) for entry in first] == [(entry.row, entry.label) for entry in ROWS]
    other = with_teacher_logits(ROWS, ask, file)  # a new run asks anew
    assert other[0].teacher is not None
    assert other[0].teacher.tolist() == [2, 4, 6]


def test_answers_that_do_not_fit_the_rows_are_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "teacher.npy"
    np.save(file, np.zeros((5, 3), dtype=np.float32))
    found = with_teacher_logits(ROWS, lambda: np.ones((2, 3), dtype=np.float32), file, resume=True)
    assert found[0].teacher is not None
    assert found[0].teacher.tolist() == [1, 1, 1]

"""The loss on held-out rows is what the loss of each decision alone comes to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from app.core.types import Row
from scripts.tasks.base import TrainingRow
from scripts.tasks.question_answering import OfflineQuestionAnswering, SpanLabel
from scripts.tasks.registry import offline_task
from scripts.tasks.summarization import OfflineSummarization
from scripts.training import mean_loss as module
from scripts.training.mean_loss import mean_loss
from tests.unit.scripts.conftest import MakeModel


def test_single_labels_have_the_mean_cross_entropy_of_the_texts(tiny_model: MakeModel, rows: list[Row]) -> None:
    model, labels = tiny_model("Bert"), [index % 3 for index in range(len(rows))]
    found = mean_loss(offline_task("text-classification"), model, [TrainingRow(*one) for one in zip(rows, labels, strict=True)])
    alone = [
        torch.nn.functional.cross_entropy(logits(model, row), torch.tensor([label])).item()
        for row, label in zip(rows, labels, strict=True)
    ]
    assert found == pytest.approx(np.mean(alone), abs=1e-5)


def test_several_labels_have_the_mean_binary_cross_entropy(tiny_model: MakeModel, rows: list[Row]) -> None:
    model = tiny_model("Bert", problem_type="multi_label_classification")
    labels = [[float(index % 2), 1.0, 0.0] for index in range(len(rows))]
    found = mean_loss(offline_task("text-classification"), model, [TrainingRow(*one) for one in zip(rows, labels, strict=True)])
    alone = [
        torch.nn.functional.binary_cross_entropy_with_logits(logits(model, row), torch.tensor([label])).item()
        for row, label in zip(rows, labels, strict=True)
    ]
    assert found == pytest.approx(np.mean(alone), abs=1e-5)


@pytest.mark.parametrize("task", ["question-answering", "summarization"])
def test_the_loss_does_not_depend_on_how_rows_are_batched(
    task: Any, tiny_model: MakeModel, rows: list[Row], marked_rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = offline_task(task)
    if isinstance(offline, OfflineQuestionAnswering):
        model = tiny_model("Bert", "QuestionAnswering")
        labelled = [TrainingRow(row, SpanLabel(1, [(1, row.num_tokens - 1, 1.0)])) for row in rows]
    else:
        assert isinstance(offline, OfflineSummarization)
        model = tiny_model("Bert", "TokenClassification")
        labelled = [TrainingRow(row, [0.2 * (index + 1) for index in range(len(row.markers))]) for row in marked_rows]
    together = mean_loss(offline, model, labelled)
    monkeypatch.setattr(module, "token_batches", lambda ones: [[index] for index in range(len(ones))])
    assert mean_loss(offline, model, labelled) == pytest.approx(together, abs=1e-5)


def test_dropout_is_off(tiny_model: MakeModel, rows: list[Row]) -> None:
    model, labelled = tiny_model("Bert", hidden_dropout_prob=0.5).train(), [TrainingRow(row, 1) for row in rows]
    offline = offline_task("text-classification")
    assert mean_loss(offline, model, labelled) == mean_loss(offline, model, labelled)


def logits(model: Any, row: Row) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(
            input_ids=torch.tensor([row.input_ids]), token_type_ids=torch.tensor([row.token_type_ids])
        ).logits
    return found

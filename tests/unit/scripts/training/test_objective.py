"""The loss of a batch, and the mean loss of examples."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from app.core.errors import InvalidSettings
from app.core.types import Row
from scripts.tasks import training_task
from scripts.tasks.extractive_summarization import SummarizationTraining
from scripts.tasks.question_answering.task import QuestionAnsweringTraining, SpanLabel
from scripts.tasks.spec import TrainingRow
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training import objective as module
from scripts.training.objective import Objective, label_weights, mean_loss
from scripts.training.recipe import Recipe, recipe_of
from tests.unit.scripts.conftest import MakeModel

TASK = TextClassificationTraining()
LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0], [1.0, -2.0, 0.0]])
LABELS = torch.tensor([0, 1, 0])
SETS = torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 0, 0]])


def config(problem: str = "single_label_classification") -> Any:
    return SimpleNamespace(num_labels=3, id2label={0: "a", 1: "b", 2: "c"}, problem_type=problem)


def rows(labels: torch.Tensor) -> list[TrainingRow]:
    return [TrainingRow(Row([2, 3], [0, 0]), label) for label in labels.tolist()]


def loss_of(recipe: Recipe, labels: torch.Tensor = LABELS, teacher: torch.Tensor | None = None) -> float:
    """Of a model that answers LOGITS."""
    problem = "single_label_classification" if labels.ndim == 1 else "multi_label_classification"
    batch = {"labels": labels, **({} if teacher is None else {"teacher_logits": teacher})}
    objective = Objective(recipe, TASK, config(problem), rows(labels))
    return float(objective(lambda **inputs: {"logits": LOGITS}, batch)[0])


def recipe(**values: Any) -> Recipe:
    return recipe_of({"data": ["x"], **values})


def test_without_any_wish_the_model_gives_its_own_loss() -> None:
    objective = Objective(recipe(), TASK, config(), rows(LABELS))
    loss, _ = objective(lambda **inputs: {"loss": inputs["labels"].sum(), "logits": LOGITS}, {"labels": LABELS})
    assert loss == 1


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2, 0])
    found = label_weights("balanced", config(), rows(labels), False)
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float32))


def test_balanced_weights_of_several_labels_make_up_for_the_rows_without_them() -> None:
    weights = label_weights("balanced", config(), rows(SETS), True)
    assert weights is not None
    assert weights.tolist() == [0.5, 2, 2]


def test_a_weighted_row_counts_as_often_as_its_weight() -> None:
    each = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    assert loss_of(recipe(class_weights={"b": 3.0})) == pytest.approx(float((each[0] + 3 * each[1] + each[2]) / 3))


def test_smoothing_spreads_the_label() -> None:
    wanted = functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.2)
    assert loss_of(recipe(label_smoothing=0.2)) == pytest.approx(float(wanted))


def test_a_label_that_outweighs_others_does_so_among_several_labels_too() -> None:
    wanted = functional.binary_cross_entropy_with_logits(LOGITS, SETS, pos_weight=torch.tensor([1.0, 4, 1]))
    assert loss_of(recipe(class_weights={"b": 4}), SETS) == pytest.approx(float(wanted))


def test_a_teacher_that_agrees_costs_nothing() -> None:
    assert loss_of(recipe(teacher="t", teacher_share=1.0), teacher=LOGITS) == pytest.approx(0, abs=1e-6)
    assert loss_of(recipe(teacher="t", teacher_share=1.0), teacher=-LOGITS) > 0.5


def test_teacher_and_labels_share_the_loss() -> None:
    other = LOGITS.flip(0)
    alone = loss_of(recipe(teacher="t", teacher_share=1.0), teacher=other)
    hard = float(functional.cross_entropy(LOGITS, LABELS))
    assert loss_of(recipe(teacher="t", teacher_share=0.25), teacher=other) == pytest.approx(0.25 * alone + 0.75 * hard)


def test_a_teachers_gradient_keeps_its_size_at_a_high_temperature() -> None:
    found = [loss_of(recipe(teacher="t", teacher_share=1.0, teacher_temperature=t), teacher=LOGITS.flip(0)) for t in (20, 40)]
    assert found[0] == pytest.approx(found[1], rel=0.1)


def test_several_labels_are_taught_one_by_one() -> None:
    wish = recipe(teacher="t", teacher_share=1.0, teacher_temperature=1.0)
    wanted = functional.binary_cross_entropy_with_logits(LOGITS, LOGITS.flip(0).sigmoid())
    assert loss_of(wish, SETS, LOGITS.flip(0)) == pytest.approx(float(wanted))


def test_a_weight_for_an_unknown_label_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="the label 'd'; the data has a, b, c"):
        label_weights('{"d": 2}', config(), rows(LABELS), False)


@pytest.mark.parametrize("values", [{"class_weights": "balanced"}, {"label_smoothing": 0.1}])
def test_what_only_classifiers_have_is_refused_elsewhere(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings, match=f"{next(iter(values))} is "):
        Objective(recipe(**values), QuestionAnsweringTraining(), config(), [])


def test_single_labels_have_the_mean_cross_entropy_of_the_texts(tiny_model: MakeModel, rows: list[Row]) -> None:
    model, labels = tiny_model("Bert"), [index % 3 for index in range(len(rows))]
    found = mean_loss(
        training_task("text-classification"), model, [TrainingRow(*entry) for entry in zip(rows, labels, strict=True)]
    )
    alone = [
        torch.nn.functional.cross_entropy(logits(model, row), torch.tensor([label])).item()
        for row, label in zip(rows, labels, strict=True)
    ]
    assert found == pytest.approx(np.mean(alone), abs=1e-5)


def test_several_labels_have_the_mean_binary_cross_entropy(tiny_model: MakeModel, rows: list[Row]) -> None:
    model = tiny_model("Bert", problem_type="multi_label_classification")
    labels = [[float(index % 2), 1.0, 0.0] for index in range(len(rows))]
    found = mean_loss(
        training_task("text-classification"), model, [TrainingRow(*entry) for entry in zip(rows, labels, strict=True)]
    )
    alone = [
        torch.nn.functional.binary_cross_entropy_with_logits(logits(model, row), torch.tensor([label])).item()
        for row, label in zip(rows, labels, strict=True)
    ]
    assert found == pytest.approx(np.mean(alone), abs=1e-5)


@pytest.mark.parametrize("task", ["question-answering", "summarization"])
def test_the_loss_does_not_depend_on_how_rows_are_batched(
    task: Any, tiny_model: MakeModel, rows: list[Row], marked_rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = training_task(task)
    if isinstance(training, QuestionAnsweringTraining):
        model = tiny_model("Bert", "QuestionAnswering")
        labelled = [TrainingRow(row, SpanLabel(1, [(1, row.num_tokens - 1, 1.0)])) for row in rows]
    else:
        assert isinstance(training, SummarizationTraining)
        model = tiny_model("Bert", "TokenClassification")
        labelled = [TrainingRow(row, [0.2 * (index + 1) for index in range(len(row.output_positions))]) for row in marked_rows]
    together = mean_loss(training, model, labelled)
    monkeypatch.setattr(module, "token_batches", lambda rows, budget: [[index] for index in range(len(rows))])
    assert mean_loss(training, model, labelled) == pytest.approx(together, abs=1e-5)


def test_dropout_is_off(tiny_model: MakeModel, rows: list[Row]) -> None:
    model, labelled = tiny_model("Bert", hidden_dropout_prob=0.5).train(), [TrainingRow(row, 1) for row in rows]
    training = training_task("text-classification")
    assert mean_loss(training, model, labelled) == mean_loss(training, model, labelled)


def logits(model: Any, row: Row) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(
            input_ids=torch.tensor([row.input_ids]), token_type_ids=torch.tensor([row.token_type_ids])
        ).logits
    return found

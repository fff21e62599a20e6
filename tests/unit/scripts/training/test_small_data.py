"""A head that begins as a linear probe: when it does, what it then predicts, and that it can be switched off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.errors import InvalidSettings
from app.core.types import Row
from scripts.export.pooling import pool_by_mean, pooling_of
from scripts.export.torch_reference import TorchRunner
from scripts.tasks import training_task
from scripts.tasks.spec import TrainingRow
from scripts.training.recipe import Recipe
from scripts.training.small_data import SMALL_ROWS, begin_with_probe, default_epochs, resolved

TASK = training_task("text-classification")
SINGLE = "single_label_classification"
FAMILIES = ["Bert", "Roberta", "Electra", "DistilBert", "Albert", "MPNet"]


@pytest.fixture
def model(tiny_model: Any) -> Any:
    return with_new_head(tiny_model("Bert", problem_type=SINGLE))


def with_new_head(model: Any) -> Any:
    model.head_is_new = True
    return model


def texts(num_labels: int, count: int = 45) -> list[TrainingRow]:
    """Rows whose label is that of the word that they repeat."""
    return [
        TrainingRow(Row([2, *[4 + 3 * (i % num_labels)] * (2 + i % 5), 3], [0] * (4 + i % 5)), i % num_labels)
        for i in range(count)
    ]


def test_few_rows_and_a_sentence_encoder_begin_with_a_probe_of_the_mean(model: Any, sentence_encoder: Path) -> None:
    recipe = resolved(Recipe(), TASK, model, str(sentence_encoder), SMALL_ROWS)
    assert (recipe.head, recipe.pooling, recipe.update_size) == ("probe", "mean", 16)
    assert pooling_of(model) == "mean"


def test_more_rows_are_trained_as_ever(model: Any, sentence_encoder: Path) -> None:
    recipe = resolved(Recipe(), TASK, model, str(sentence_encoder), SMALL_ROWS + 1)
    assert (recipe.head, recipe.pooling, recipe.update_size) == ("random", "first", 32)
    assert pooling_of(model) == "first"


def test_a_base_model_that_is_no_sentence_encoder_is_trained_as_ever(model: Any, tmp_path: Path) -> None:
    assert resolved(Recipe(), TASK, model, str(tmp_path), 50).head == "random"


def test_a_head_that_the_base_model_brings_is_kept(model: Any, sentence_encoder: Path) -> None:
    model.head_is_new = False
    assert resolved(Recipe(), TASK, model, str(sentence_encoder), 50).head == "random"


@pytest.mark.parametrize("values", [{"head": "random"}, {"pooling": "first"}])
def test_it_can_be_switched_off(values: dict[str, Any], model: Any, sentence_encoder: Path) -> None:
    recipe = resolved(Recipe(**values), TASK, model, str(sentence_encoder), 50)
    assert (recipe.head, recipe.pooling) == ("random", "first")


def test_each_half_can_be_had_alone_and_with_many_rows(model: Any, tiny_model: Any, tmp_path: Path) -> None:
    first = resolved(Recipe(head="probe", pooling="first"), TASK, model, str(tmp_path), 5000)
    assert (first.head, first.pooling, pooling_of(model)) == ("probe", "first", "first")
    mean = resolved(Recipe(head="random", pooling="mean"), TASK, model, str(tmp_path), 5000)
    assert (mean.head, mean.pooling, pooling_of(model)) == ("random", "mean", "mean")


def test_a_batch_size_that_is_named_is_kept(model: Any, sentence_encoder: Path) -> None:
    assert resolved(Recipe(batch_size=8), TASK, model, str(sentence_encoder), 50).update_size == 8


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"], ids=["several labels a text", "numbers"])
def test_other_labels_are_trained_as_ever_and_a_probe_of_them_is_refused(
    problem_type: str, tiny_model: Any, sentence_encoder: Path
) -> None:
    model = with_new_head(tiny_model("Bert", problem_type=problem_type))
    assert resolved(Recipe(), TASK, model, str(sentence_encoder), 50).head == "random"
    with pytest.raises(InvalidSettings, match="head is probe, but that is for texts with one label each; leave it out"):
        resolved(Recipe(head="probe"), TASK, model, str(sentence_encoder), 50)
    with pytest.raises(InvalidSettings, match="pooling is mean, but that is for texts with one label each"):
        resolved(Recipe(pooling="mean"), TASK, model, str(sentence_encoder), 50)


def test_a_head_of_a_kind_of_its_own_is_refused_by_its_name(tiny_model: Any, sentence_encoder: Path) -> None:
    model = with_new_head(tiny_model("GPT2", problem_type=SINGLE))
    assert resolved(Recipe(), TASK, model, str(sentence_encoder), 50).head == "random"
    with pytest.raises(InvalidSettings, match="the head of GPT2ForSequenceClassification is of a kind of its own"):
        resolved(Recipe(head="probe"), TASK, model, str(sentence_encoder), 50)


def test_a_model_that_pools_by_the_mean_does_not_read_the_first_token_again(model: Any, sentence_encoder: Path) -> None:
    pool_by_mean(model)
    with pytest.raises(InvalidSettings, match="the base model's own head reads the mean"):
        resolved(Recipe(pooling="first"), TASK, model, str(sentence_encoder), 50)
    assert resolved(Recipe(head="random"), TASK, model, str(sentence_encoder), 50).pooling == "mean"


@pytest.mark.parametrize(
    ("family", "num_labels"),
    [
        pytest.param(family, num_labels, marks=() if (family == "Bert") == (num_labels == 2) else pytest.mark.slow)
        for family in FAMILIES
        for num_labels in (2, 3)
    ],
)
def test_the_head_predicts_at_once_what_can_be_told_from_the_frozen_vectors(
    family: str, num_labels: int, tiny_model: Any
) -> None:
    model = tiny_model(family, problem_type=SINGLE, num_labels=num_labels)
    pool_by_mean(model)
    body = {name: weights.clone() for name, weights in model.base_model.named_parameters() if "pooler" not in name}
    rows = texts(num_labels)
    probe = begin_with_probe(model, TASK, rows)
    logits = [output["logits"] for output in TorchRunner(model, "row").run_rows([row.row for row in rows])]
    accuracy = np.mean(np.argmax(logits, -1).ravel() == [row.label for row in rows])
    assert accuracy > 0.9
    assert probe.accuracy is not None
    assert probe.accuracy > 0.8
    assert probe.folds == 5
    assert all((weights == body[name]).all() for name, weights in model.base_model.named_parameters() if name in body)


def test_a_label_without_a_row_is_never_predicted(model: Any) -> None:
    rows = texts(2)
    begin_with_probe(model, TASK, rows)
    logits = [output["logits"] for output in TorchRunner(model, "row").run_rows([row.row for row in rows])]
    assert 2 not in np.argmax(logits, -1)


def test_one_row_a_label_is_enough_and_nothing_is_compared(model: Any) -> None:
    probe = begin_with_probe(model, TASK, texts(3, count=3))
    assert (probe.folds, probe.accuracy) == (0, None)


def test_the_same_rows_give_the_same_head(tiny_model: Any) -> None:
    heads = []
    for _ in range(2):
        model = tiny_model("Bert", problem_type=SINGLE)
        begin_with_probe(model, TASK, texts(3))
        heads.append(model.classifier.weight.detach().numpy().copy())
    np.testing.assert_array_equal(*heads)


@pytest.mark.parametrize(("rows", "epochs"), [(10, 16), (50, 16), (200, 8), (300, 5), (1000, 4)])
def test_few_rows_are_read_more_often(rows: int, epochs: int) -> None:
    assert default_epochs(rows, 16) == epochs


def test_the_recipe_that_was_given_is_left_alone(model: Any, sentence_encoder: Path) -> None:
    recipe = Recipe()
    assert resolved(recipe, TASK, model, str(sentence_encoder), 50) != recipe
    assert recipe == replace(Recipe())

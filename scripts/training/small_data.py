"""Few labelled texts: a head that begins as a linear probe of the base model's own vectors, and a schedule of its own.

A head drawn at random first learns what the labels are, and pulls the base model along; with few texts, that is most of the
training. So the head is fitted first, as a logistic regression on the frozen base model's vectors, and all weights are trained
from there: "linear probing then fine-tuning" (Kumar et al. 2022, arXiv:2202.10054). Everything is decided by the training rows.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from app.core.errors import InvalidSettings
from scripts.export.pooling import encoder_of, is_pooled_by_mean, pool_by_mean, pooling_of
from scripts.export.torch_reference import TorchRunner
from scripts.tasks.spec import TrainingRow, TrainingTask
from scripts.training.objective import SINGLE, kind_of
from scripts.training.recipe import Recipe
from scripts.training.weights import head_of

SMALL_ROWS = 1000
"""Training rows up to which a head begins as a probe, where nobody says another."""
UPDATES, FEWEST_EPOCHS, MOST_EPOCHS = 100, 4, 16
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of regularization that are tried, scikit-learn's C."""
FOLDS = 5
AT_ONCE = 16
"""Texts that the frozen body reads at once."""
MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class Probe:
    """The head's first weights, and how well they do."""

    strength: float
    """scikit-learn's C."""
    folds: int
    """0 where no label has two rows: nothing could be compared."""
    accuracy: float | None
    """Share of the training rows that were predicted rightly by a probe fitted on the other folds; None without folds."""
    seconds: float


def resolved(
    recipe: Recipe, task: TrainingTask, model: Any, location: str, num_rows: int, has_text_vectors: bool = False
) -> Recipe:
    """The recipe with its `head` and `pooling` decided, and the model pooling so.

    Args:
        recipe: with `auto` where nobody said another.
        task: whose head.
        model: with that head, as it was loaded; `head_is_new` says whether its weights are drawn at random.
        has_text_vectors: whether the base model was trained to say something of whole texts by what its head read, as a
            published classifier was: then a probe reads that too.

    Raises:
        InvalidSettings: the recipe asks for what this task or this architecture does not have.
    """
    head, pooling = recipe.head, recipe.pooling
    refusal = _refusal(task, model)
    if refusal and (head == "probe" or pooling == "mean"):
        raise InvalidSettings(f"{'head is probe' if head == 'probe' else 'pooling is mean'}, but {refusal}; leave it out")
    if head == "auto":
        may_begin_so = not refusal and model.head_is_new and num_rows <= SMALL_ROWS and pooling != "first"
        knows_texts = has_text_vectors or _is_sentence_encoder(model, location)
        head = "probe" if may_begin_so and knows_texts else "random"
    if pooling == "auto":
        pooling = "mean" if head == "probe" and _is_sentence_encoder(model, location) else pooling_of(model)
    if pooling == "mean":
        pool_by_mean(model)
    elif pooling_of(model) == "mean":
        raise InvalidSettings("pooling is first, but the base model's own head reads the mean over the tokens; leave it out")
    return replace(recipe, head=head, pooling=pooling)


def _is_sentence_encoder(model: Any, location: str) -> bool:
    return pooling_of(model) == "mean" or is_pooled_by_mean(location)


def _refusal(task: TrainingTask, model: Any) -> str:
    """Why this head cannot begin as a probe, as a clause, or nothing."""
    if task.output_axis != "row" or kind_of(task, model.config) != SINGLE:
        return "that is for texts with one label each"
    if encoder_of(model.base_model) is None or output_layer(model) is None:
        return f"the head of {type(model).__name__} is of a kind of its own"
    return ""


def default_epochs(num_rows: int, batch_size: int) -> int:
    """Enough epochs for 100 updates; between 4 and 16."""
    per_epoch = max(1, math.ceil(num_rows / batch_size))
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(UPDATES / per_epoch)))


def output_layer(model: Any) -> torch.nn.Linear | None:
    """The layer that gives the logits, the last of the head; None where that is no linear layer."""
    layers = _linear_layers(model)
    return layers[-1] if layers and layers[-1].out_features == model.config.num_labels else None


def _linear_layers(model: Any) -> list[torch.nn.Linear]:
    """Of the pooler and the head, in the order in which they are passed."""
    named = {"pooler": getattr(model.base_model, "pooler", None), **dict(model.named_children())}
    parts = [named[name] for name in sorted(head_of(model), key=lambda name: name != "pooler")]
    return [layer for part in parts for layer in part.modules() if isinstance(layer, torch.nn.Linear)]


def begin_with_probe(model: Any, task: TrainingTask, rows: Sequence[TrainingRow]) -> Probe:
    """Fit the head on the frozen body's vectors, in place.

    Layers between the body's vector and the output begin as the identity, so that nothing but their activation stands between
    what the body was trained to say and the logits.

    Args:
        model: of which `output_layer` is known.
        task: whose head.
        rows: to train on; their labels are whole numbers.
    """
    began = time.monotonic()
    *inner, output = _linear_layers(model)
    for layer in inner:
        if layer.in_features == layer.out_features:
            torch.nn.init.eye_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    labels = np.array([row.label for row in rows])
    vectors = _inputs_of(output, model, task, rows)
    fitted, folds, accuracy = _fit(vectors, labels)
    with torch.no_grad():
        weight, bias = _of_all_classes(fitted, model.config.num_labels)
        output.weight.copy_(torch.from_numpy(weight))
        output.bias.copy_(torch.from_numpy(bias))
    return Probe(fitted.C, folds, accuracy, round(time.monotonic() - began, 1))


def _inputs_of(layer: torch.nn.Linear, model: Any, task: TrainingTask, rows: Sequence[TrainingRow]) -> np.ndarray:
    """What a layer of the head reads of each row. (rows, hidden)"""
    batches: list[np.ndarray] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].detach().float().cpu().numpy()))
    runner = TorchRunner(model, task.output_axis)
    order = sorted(range(len(rows)), key=lambda index: rows[index].row.num_tokens)
    try:
        for start in range(0, len(order), AT_ONCE):
            runner.run_together([rows[index].row for index in order[start : start + AT_ONCE]])
    finally:
        hook.remove()
    vectors = np.concatenate(batches)
    return vectors[np.argsort(order)]


def _fit(vectors: np.ndarray, labels: np.ndarray) -> tuple[LogisticRegression, int, float | None]:
    """The regression, the number of folds, and its accuracy on those held out.

    Of the strengths that predict held-out folds as well as the best one, but for a standard error, the most regularized one
    (Breiman et al. 1984): its small logits leave the training that follows something to learn.
    """
    folds = min(FOLDS, int(np.bincount(labels).max()))
    if folds < 2:
        return LogisticRegression(max_iter=MAX_ITERATIONS).fit(vectors, labels), 0, None
    search = GridSearchCV(
        LogisticRegression(max_iter=MAX_ITERATIONS),
        {"C": list(STRENGTHS)},
        cv=StratifiedKFold(folds, shuffle=True, random_state=0),
        refit=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # then some folds lack it
        search.fit(vectors, labels)
    means, deviations = search.cv_results_["mean_test_score"], search.cv_results_["std_test_score"]
    best = int(means.argmax())
    chosen = int(np.flatnonzero(means >= means[best] - deviations[best] / math.sqrt(folds))[0])
    fitted = LogisticRegression(C=STRENGTHS[chosen], max_iter=MAX_ITERATIONS).fit(vectors, labels)
    return fitted, folds, round(float(means[chosen]), 4)


def _of_all_classes(fitted: LogisticRegression, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases with an output for each label; two labels have one regression, whose halves they get."""
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(coefficients) == 1:
        coefficients, intercepts = np.stack([-coefficients[0], coefficients[0]]) / 2, np.array([-0.5, 0.5]) * intercepts[0]
    weight = np.zeros((num_labels, coefficients.shape[1]), np.float32)
    bias = np.full(num_labels, intercepts.min(), np.float32)  # of a label that no training row has
    weight[fitted.classes_], bias[fitted.classes_] = coefficients, intercepts
    return weight, bias

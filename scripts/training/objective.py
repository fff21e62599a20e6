"""What training lowers: the head's loss, weighted by label where the recipe says so, mixed with a teacher's answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from app.core.errors import InvalidSettings
from scripts.export.layouts import head_logits, padded_graph
from scripts.tasks.heads import HeadTask
from scripts.tasks.spec import TrainingRow, TrainingTask
from scripts.training.data_loader import Collator
from scripts.training.evaluation import BUDGET, token_batches
from scripts.training.recipe import Recipe, weights_of
from scripts.training.seq2seq.objective import mean_token_loss

MULTI = "multi_label_classification"
SINGLE = "single_label_classification"


class Objective:
    """Called with a model and a batch, gives its loss, a mean over the batch's decisions, and its outputs."""

    def __init__(self, recipe: Recipe, task: HeadTask, config: Any, rows: Sequence[TrainingRow]) -> None:
        """
        Raises:
            InvalidSettings: the recipe asks for what this head's loss does not have.
        """
        self.num_labels: int = config.num_labels
        self._task, self._recipe = task, recipe
        self._kind = kind_of(task, config)
        _check(recipe, self._kind)
        self._weights = label_weights(recipe.class_weights, config, rows, self._kind == MULTI)

    def __call__(self, model: Any, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
        labels, teacher = inputs["labels"], inputs.get("teacher_logits")
        fed = {name: tensor for name, tensor in inputs.items() if name not in ("labels", "teacher_logits")}
        if self._task.has_own_loss:
            outputs = model(**fed)
            return self._task.loss(outputs, labels), outputs
        if self._weights is None and teacher is None and not self._recipe.label_smoothing:
            outputs = model(**fed, labels=labels)
            return outputs["loss"], outputs
        outputs = model(**fed)
        logits = outputs["logits"].float()
        loss = self._labels_loss(logits, labels)
        if teacher is not None:
            share = self._recipe.teacher_share
            loss = (1 - share) * loss + share * self._teacher_loss(logits, teacher)
        return loss, outputs

    def num_correct(self, outputs: Any, labels: torch.Tensor) -> tuple[int, int]:
        """How many of how many decisions of a batch are right."""
        return self._task.num_correct(head_logits(outputs).detach().float().cpu().numpy(), labels.cpu().numpy())

    def _labels_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        weights = None if self._weights is None else self._weights.to(logits.device)
        if self._kind == MULTI:
            return functional.binary_cross_entropy_with_logits(logits, labels.to(logits), pos_weight=weights)
        losses = functional.cross_entropy(logits, labels, label_smoothing=self._recipe.label_smoothing, reduction="none")
        # a mean over rows, not over weights: a batch of common labels must not count as much as one of rare ones
        return losses.mean() if weights is None else (weights[labels] * losses).mean()

    def _teacher_loss(self, logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Kullback-Leibler divergence at the temperature, times its square, so that gradients keep their size (Hinton,
        Vinyals and Dean 2015); for several labels the cross entropy of each label, which has the same gradient."""
        temperature = self._recipe.teacher_temperature
        ours, theirs = logits / temperature, teacher.to(logits) / temperature
        if self._kind == MULTI:
            return functional.binary_cross_entropy_with_logits(ours, theirs.sigmoid()) * temperature**2
        divergence = functional.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), log_target=True, reduction="batchmean")
        return divergence * temperature**2


def label_weights(class_weights: str, config: Any, rows: Sequence[TrainingRow], is_multi: bool) -> torch.Tensor | None:
    """A weight per label, in the order of the head's outputs; none where all count alike. (labels,)

    `balanced` is what scikit-learn calls so: rows / (labels x rows of this label). For several labels a text it is how many
    rows lack the label for each that has it.

    Raises:
        InvalidSettings: a label is unknown.
    """
    if class_weights == "none":
        return None
    names = [str(config.id2label[index]) for index in range(config.num_labels)]
    if class_weights == "balanced":
        if is_multi:
            having = [sum(row.label[index] > 0.5 for row in rows) for index in range(len(names))]
        else:
            counted = Counter(row.label for row in rows)
            having = [counted[index] for index in range(len(names))]
        return torch.tensor([_balanced(count, len(rows), len(names), is_multi) for count in having])
    weights_by_label = weights_of(class_weights)
    unknown = [name for name in weights_by_label if name not in names]
    if unknown:
        raise InvalidSettings(f"class_weights names the label {unknown[0]!r}; the data has {', '.join(names[:20])}")
    return torch.tensor([float(weights_by_label.get(name, 1.0)) for name in names])


def _balanced(count: int, num_rows: int, num_labels: int, is_multi: bool) -> float:
    if not count:  # set aside as a whole: nothing to weigh
        return 1.0
    return max(1, num_rows - count) / count if is_multi else num_rows / (num_labels * count)


def kind_of(task: TrainingTask, config: Any) -> str:
    """The problem type of transformers, or empty where the task has a loss of its own."""
    if not isinstance(task, HeadTask) or task.has_own_loss:
        return ""
    return getattr(config, "problem_type", None) or SINGLE


def _check(recipe: Recipe, kind: str) -> None:
    if recipe.label_smoothing and kind != SINGLE:
        raise InvalidSettings(f"label_smoothing is {recipe.label_smoothing}, but it is for single labels only; leave it out")
    if recipe.class_weights != "none" and kind not in (SINGLE, MULTI):
        raise InvalidSettings(f"class_weights is {recipe.class_weights}, but there are no classes here; leave it out")
    if recipe.teacher and kind not in (SINGLE, MULTI):
        raise InvalidSettings(f"teacher is {recipe.teacher}, but only classifiers can learn from one; leave it out")


@torch.no_grad()
def mean_loss(task: TrainingTask, model: Any, rows: Sequence[TrainingRow]) -> float:
    """The mean over all decisions in the rows (one a row; in summaries, one a sentence; in texts that are written, a token),
    in fp32, without label smoothing.

    Args:
        task: whose head and loss.
        model: a transformers model with the task's head.
        rows: with their labels, as for training; at least one.
    """
    if not isinstance(task, HeadTask):
        return mean_token_loss(model, rows)
    model = model.float().eval()
    collate = Collator(task, padded_graph(model, task.output_axis), ())
    total, num_decisions = 0.0, 0
    widest = max(len(row.rows) for row in rows)
    for batch in token_batches([row.longest for row in rows], BUDGET // widest):
        feed = {name: tensor.to(model.device) for name, tensor in collate([rows[index] for index in batch]).items()}
        loss, outputs = _forward(task, model, feed)
        _, count = task.num_correct(head_logits(outputs).cpu().numpy(), feed["labels"].cpu().numpy())
        total += float(loss) * count  # the batch's loss is a mean over them
        num_decisions += count
    return total / num_decisions


def _forward(task: HeadTask, model: Any, feed: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
    if not task.has_own_loss:
        outputs = model(**feed)
        return outputs["loss"], outputs
    outputs = model(**{name: tensor for name, tensor in feed.items() if name != "labels"})
    return task.loss(outputs, feed["labels"]), outputs

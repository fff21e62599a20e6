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
from scripts.training.data_loader import LABELLED, Collator
from scripts.training.evaluation import BUDGET, token_batches
from scripts.training.recipe import Recipe, weights_of
from scripts.training.seq2seq.objective import mean_token_loss

MULTI = "multi_label_classification"
SINGLE = "single_label_classification"
NO_LABEL = -100
"""Of a token that takes no part in the loss, as in torch and transformers."""
LOGITS = ("logits", "start_logits", "end_logits")
"""What heads call their outputs."""


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
        check_teacher(recipe.teacher, task)
        _check(recipe, self._kind)
        known = [row for row in rows if row.is_labelled]
        self._weights = label_weights(recipe.class_weights, config, known, self._kind == MULTI)

    def __call__(self, model: Any, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
        labels, teacher = inputs["labels"], inputs.get("teacher_logits")
        fed = {name: tensor for name, tensor in inputs.items() if name not in NOT_FED}
        is_plain = self._weights is None and teacher is None and not self._recipe.label_smoothing
        if is_plain and not self._task.has_own_loss:
            outputs = model(**fed, labels=labels)
            return outputs["loss"], outputs
        outputs = model(**fed)
        if teacher is None:
            return self._labels_loss(outputs, labels), outputs
        return self._taught_loss(outputs, labels, teacher, inputs.get(LABELLED)), outputs

    def num_correct(self, outputs: Any, labels: torch.Tensor) -> tuple[int, int]:
        """How many of how many decisions of a batch are right."""
        return self._task.num_correct(head_logits(outputs).detach().float().cpu().numpy(), labels.cpu().numpy())

    def _taught_loss(
        self, outputs: Any, labels: torch.Tensor, teacher: torch.Tensor, is_labelled: torch.Tensor | None
    ) -> torch.Tensor:
        """Of rows with labels the teacher's share and the labels', of those without the teacher's alone: a mean over rows."""
        loss = torch.zeros((), device=labels.device)
        is_labelled = torch.ones(len(labels), dtype=torch.bool, device=labels.device) if is_labelled is None else is_labelled
        for chosen, share in ((is_labelled, self._recipe.teacher_share), (~is_labelled, 1.0)):
            if not chosen.any():
                continue
            rows, some = _rows_of(outputs, chosen), labels[chosen]
            part = share * self._teacher_loss(rows, some, teacher[chosen])
            if share < 1:
                part = part + (1 - share) * self._labels_loss(rows, some)
            loss = loss + part * chosen.float().mean()
        return loss

    def _labels_loss(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        if self._task.has_own_loss:
            return self._task.loss(outputs, labels)
        logits, labels = _decisions(outputs["logits"].float(), labels, labels)
        weights = None if self._weights is None else self._weights.to(logits.device)
        if self._kind == MULTI:
            return functional.binary_cross_entropy_with_logits(logits, labels.to(logits), pos_weight=weights)
        losses = functional.cross_entropy(logits, labels, label_smoothing=self._recipe.label_smoothing, reduction="none")
        # a mean over rows, not over weights: a batch of common labels must not count as much as one of rare ones
        return losses.mean() if weights is None else (weights[labels] * losses).mean()

    def _teacher_loss(self, outputs: Any, labels: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Kullback-Leibler divergence at the temperature, times its square, so that gradients keep their size (Hinton,
        Vinyals and Dean 2015); for several labels the cross entropy of each label, which has the same gradient."""
        temperature = self._recipe.teacher_temperature
        if self._task.has_own_loss:
            return self._task.teacher_loss(outputs, labels, teacher, temperature)
        logits, teacher = _decisions(outputs["logits"].float(), teacher, labels)
        ours, theirs = logits / temperature, teacher.to(logits) / temperature
        if self._kind == MULTI:
            return functional.binary_cross_entropy_with_logits(ours, theirs.sigmoid()) * temperature**2
        divergence = functional.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), log_target=True, reduction="batchmean")
        return divergence * temperature**2


NOT_FED = ("labels", "teacher_logits", LABELLED)
"""What of a batch the model does not read."""


def labelled_part(outputs: Any, inputs: Mapping[str, torch.Tensor]) -> tuple[Any, torch.Tensor]:
    """Outputs and labels of the rows whose labels say what is right."""
    chosen, labels = inputs.get(LABELLED), inputs["labels"]
    return (outputs, labels) if chosen is None else (_rows_of(outputs, chosen), labels[chosen])


def _rows_of(outputs: Any, chosen: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: outputs[name][chosen] for name in LOGITS if name in outputs}


def _decisions(logits: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and what is wanted of them, (decisions, labels) and (decisions, …): where each token has a label, of the tokens
    that are decided."""
    if logits.dim() == 2:
        return logits, wanted
    inside = labels != NO_LABEL
    return logits[inside], wanted[inside]


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


def check_teacher(teacher: str, task: TrainingTask) -> None:
    """
    Raises:
        InvalidSettings: there is one, and the task's models learn from none.
    """
    if teacher and not task.is_teachable:
        raise InvalidSettings(f"teacher is {teacher}, but a model for {task.name} learns from none; leave it out")


def _check(recipe: Recipe, kind: str) -> None:
    if recipe.label_smoothing and kind != SINGLE:
        raise InvalidSettings(f"label_smoothing is {recipe.label_smoothing}, but it is for single labels only; leave it out")
    if recipe.class_weights != "none" and kind not in (SINGLE, MULTI):
        raise InvalidSettings(f"class_weights is {recipe.class_weights}, but there are no classes here; leave it out")


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

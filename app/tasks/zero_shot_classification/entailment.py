"""Zero-shot classification by natural language inference: a label is as likely as its sentence follows from the text.

The scores are those of transformers' pipeline on the same weights: of one label among several the softmax of the entailment
logits, of labels that do not exclude each other, or of a single one, that of entailment against contradiction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.passage import sigmoid, softmax
from app.tasks.spec import Arranged
from app.tasks.text_classification.schemas import Label
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions
from app.tasks.zero_shot_classification.schemas import Method, ZeroShotItem, ZeroShotRequest, ZeroShotResult

MIN_SCORE = 0.5
"""From so much on a label is selected, where several may be right."""
Logits = Mapping[str, float]
"""By the model's own labels."""


def entailment_labels(labels: Sequence[str]) -> tuple[str, str] | None:
    """Names of the labels for what follows and what contradicts; None: these are none of natural language inference.

    Entailment is the first that begins with `entail`, in whatever case, which `not_entailment` does not. Of two labels the
    other one contradicts; of three it is the one that begins with `contra`, wherever it stands.
    """
    entailment = next((label for label in labels if label.lower().startswith("entail")), None)
    others = [label for label in labels if label != entailment]
    named = [label for label in others if label.lower().startswith("contra")]
    contradiction = named[:1] or (others if len(others) == 1 else [])
    return (entailment, contradiction[0]) if entailment is not None and contradiction else None


def refusal(task_options: Mapping[str, Any]) -> str:
    """Why a classifier cannot be asked for labels that it never saw, as a clause; empty: it can."""
    is_multi = task_options.get("problem_type") == "multi_label_classification"
    if not is_multi and entailment_labels(task_options.get("labels", ())) is not None:
        return ""
    return "knows its own labels only: none of them says that one text follows from another (entailment)"


def pairs_of(request: ZeroShotRequest, task_options: Mapping[str, Any]) -> list[Any]:
    """For each text a pair with each label's sentence; what is no text is its error."""
    return [pair for item in request.items() for pair in _pairs(item)]


def _pairs(item: ZeroShotItem | HooperError) -> list[Any]:
    if isinstance(item, HooperError):
        return [item]
    return [ClassificationItem(item.text, hypothesis) for hypothesis in item.hypotheses]


def options_of(request: ZeroShotRequest) -> ClassificationOptions:
    """Logits are wanted, of all labels."""
    return ClassificationOptions(activation="none", truncation=request.truncation)


def arrange(request: ZeroShotRequest, results: Sequence[Result | HooperError]) -> Arranged:
    """One result for each text, from those of its pairs."""
    coming = iter(results)
    return [(number, _result(request, item, coming)) for number, item in enumerate(request.items())]


def _result(
    request: ZeroShotRequest, item: ZeroShotItem | HooperError, coming: Iterator[Result | HooperError]
) -> ZeroShotResult | HooperError:
    answers = [next(coming) for _ in _pairs(item)]
    good = [answer for answer in answers if isinstance(answer, Result)]
    if isinstance(item, HooperError) or len(good) < len(answers):
        return next(answer for answer in answers if isinstance(answer, HooperError))
    logits = [{entry.label: entry.score for entry in answer.answer.labels} for answer in good]
    return arranged(request, item, scores_of(logits, request.multi_label), "entailment", good)


def arranged(
    request: ZeroShotRequest, item: ZeroShotItem, scores: Sequence[float], method: Method, read: Sequence[Result]
) -> ZeroShotResult:
    """A text's labels, best first.

    Args:
        scores: of its labels, in their order.
    """
    order = sorted(range(len(scores)), key=lambda place: -scores[place])  # stable: equal ones stay as they were sent
    labels = [
        Label.model_construct(
            label=item.labels[place],
            score=scores[place],
            selected=scores[place] >= MIN_SCORE if request.multi_label else None,
        )
        for place in order
    ]
    return ZeroShotResult.model_construct(
        labels=labels,
        method=method,
        num_tokens=sum(answer.num_tokens for answer in read),
        truncated=any(answer.truncated for answer in read),
    )


def scores_of(logits: Sequence[Logits], multi_label: bool) -> list[float]:
    """The score of each of a text's labels.

    Args:
        logits: of the pair with each label's sentence.
        multi_label: whether several labels may be right.
    """
    names = entailment_labels(list(logits[0]))
    if names is None:
        raise ValueError("the model has no entailment")
    entailment, contradiction = names
    if multi_label or len(logits) == 1:
        return [sigmoid(pair[entailment] - pair[contradiction]) for pair in logits]
    shares: list[float] = softmax(np.array([pair[entailment] for pair in logits])).tolist()
    return shares

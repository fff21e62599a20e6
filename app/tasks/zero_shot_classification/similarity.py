"""Zero-shot classification by models of vectors: the more similar a label's sentence is to the text, the likelier the label.

A cosine is no probability: models differ in how far apart theirs lie. What a sentence says of a label, beside what the template
says without one, is what they have in common, and what is scored here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.feature_extraction.task import EmbedItem, EmbedOptions
from app.tasks.passage import sigmoid, softmax
from app.tasks.spec import Arranged
from app.tasks.zero_shot_classification.entailment import arranged
from app.tasks.zero_shot_classification.schemas import PLACE, ZeroShotItem, ZeroShotRequest, ZeroShotResult

SCALE = 20.0
"""What cosines are multiplied by: the inverse of the temperature of 0.05 by which most such models were trained."""
NOTHING = "."
"""What the template is without a label, where nothing else stands in it."""


def items_of(request: ZeroShotRequest, task_options: Mapping[str, Any]) -> list[Any]:
    """All texts, then the template without a label, then each label's sentence once, whichever texts it is for."""
    items = request.items()
    texts = [item if isinstance(item, HooperError) else EmbedItem(item.text) for item in items]
    return [*texts, *map(EmbedItem, _sentences(request, items))]


def options_of(request: ZeroShotRequest) -> EmbedOptions:
    return EmbedOptions(truncation=request.truncation)


def arrange(request: ZeroShotRequest, results: Sequence[Result | HooperError]) -> Arranged:
    """One result for each text, from its vector and those of its labels' sentences."""
    items = request.items()
    sentences = dict(zip(_sentences(request, items), results[len(items) :], strict=True))
    return [
        (number, _result(request, item, text, sentences))
        for number, (item, text) in enumerate(zip(items, results[: len(items)], strict=True))
    ]


def _sentences(request: ZeroShotRequest, items: Sequence[ZeroShotItem | HooperError]) -> list[str]:
    good = [item for item in items if isinstance(item, ZeroShotItem)]
    own = [sentence for item in good for sentence in item.hypotheses]
    return list(dict.fromkeys([_bare(request), *own])) if good else []


def _bare(request: ZeroShotRequest) -> str:
    """The template without a label."""
    return " ".join(request.hypothesis_template.replace(PLACE, " ").split()) or NOTHING


def _result(
    request: ZeroShotRequest,
    item: ZeroShotItem | HooperError,
    text: Result | HooperError,
    sentences: Mapping[str, Result | HooperError],
) -> ZeroShotResult | HooperError:
    if isinstance(item, HooperError):
        return item
    needed = [text, *(sentences[sentence] for sentence in (_bare(request), *item.hypotheses))]
    read = [result for result in needed if isinstance(result, Result)]
    if len(read) < len(needed):
        return next(result for result in needed if isinstance(result, HooperError))
    first, bare, *labels = (np.asarray(result.answer.vector, np.float64) for result in read)
    scores = scores_of([float(label @ first) for label in labels], float(bare @ first), request.multi_label)
    return arranged(request, item, scores, "similarity", [read[0], *read[2:]])


def scores_of(cosines: Sequence[float], bare: float, multi_label: bool) -> list[float]:
    """The score of each of a text's labels.

    Args:
        cosines: of the text with each label's sentence.
        bare: with the template without a label.
        multi_label: whether several labels may be right.
    """
    if multi_label or len(cosines) == 1:
        return [sigmoid(SCALE * (cosine - bare)) for cosine in cosines]
    shares: list[float] = softmax(SCALE * np.array(cosines)).tolist()
    return shares

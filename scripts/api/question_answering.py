"""question_answering: a question is answered with a span of its context."""

from __future__ import annotations

from typing import Any, NamedTuple

from scripts.api.data import Part
from scripts.api.model import Model as Model
from scripts.api.model import get_model as get_model
from scripts.api.trainer import Trainer


class Figures(NamedTuple):
    """What `Trainer.evaluate` gives; exact match and F1 as SQuAD v1.1, NaN where no question has an answer."""

    loss: float
    """Mean cross entropy of start and end in nats, per window of a context."""
    exact_match: float
    """Percent of questions answered word for word."""
    f1: float
    """Percent of overlap in words, averaged over the questions."""


def create_trainer(model: Model, train: Part, val: Part, **options: Any) -> Trainer[Figures]:
    """A trainer of this model on this data, and its options; see `scripts.api.trainer.Trainer`."""
    return Trainer("question-answering", Figures, model, train, val, options)

"""summarizer: a document is summed up by its most telling sentences."""

from __future__ import annotations

from typing import Any, NamedTuple

from scripts.api.data import Part
from scripts.api.model import Model as Model
from scripts.api.model import get_model as get_model
from scripts.api.trainer import Trainer


class Figures(NamedTuple):
    """What `Trainer.evaluate` gives; ROUGE is F1 in percent, with stemming."""

    loss: float
    """Mean binary cross entropy in nats, per sentence."""
    rouge1: float
    rouge2: float
    rougeLsum: float  # noqa: N815  # the metric's own name


def create_trainer(model: Model, train: Part, val: Part, **options: Any) -> Trainer[Figures]:
    """A trainer of this model on this data, and its options; see `scripts.api.trainer.Trainer`."""
    return Trainer("summarization", Figures, model, train, val, options)

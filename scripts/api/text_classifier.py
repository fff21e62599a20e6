"""text_classifier: texts, or pairs of them, get a label each, or any number of labels."""

from __future__ import annotations

from typing import Any, NamedTuple

from scripts.api.data import Part
from scripts.api.model import Model as Model
from scripts.api.model import get_model as get_model
from scripts.api.trainer import Trainer


class Figures(NamedTuple):
    """What `Trainer.evaluate` gives."""

    loss: float
    """Mean cross entropy (several labels: binary) in nats."""
    accuracy: float
    """Share of texts whose label (several: whose whole set of labels) is right, 0 to 1."""


def create_trainer(model: Model, train: Part, val: Part, **options: Any) -> Trainer[Figures]:
    """A trainer of this model on this data, and its options; see `scripts.api.trainer.Trainer`."""
    return Trainer("text-classification", Figures, model, train, val, options)

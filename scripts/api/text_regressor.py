"""text_regressor: texts, or pairs of them, get a number each."""

from __future__ import annotations

from typing import Any, NamedTuple

from scripts.api.data import Part
from scripts.api.model import Model as Model
from scripts.api.model import get_model as get_model
from scripts.api.trainer import Trainer


class Figures(NamedTuple):
    """What `Trainer.evaluate` gives; the errors are in the data's own unit."""

    loss: float
    """Mean squared error of numbers that have the mean 0 and the deviation 1 in the training data."""
    rmse: float
    mae: float
    pearson: float
    spearman: float


def create_trainer(model: Model, train: Part, val: Part, **options: Any) -> Trainer[Figures]:
    """A trainer of this model on this data, and its options; see `scripts.api.trainer.Trainer`."""
    return Trainer("text-regression", Figures, model, train, val, options)

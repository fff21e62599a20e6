"""What a task must say about itself offline; everything else in the line is the same for all tasks."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from app.core.types import Row
from app.data import Record
from app.tasks.base import Task
from app.tasks.tokenizer import Tokenizer
from scripts.training.data import Dataset, Example, Parse
from scripts.training.evaluation import Predictions
from scripts.training.recipe import Recipe

Axis = Literal["row", "token", "position"]
"""What one output vector of the head belongs to; see `app.core.manifest.Output`."""

IGNORED = -1.0
"""Label of a token that takes no part in the loss."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row with its label, in the shape that the task's head takes."""

    row: Row
    label: Any
    teacher: np.ndarray | None = None
    """A teacher's logits of this row, where the recipe names one. (labels,)"""


@dataclass(frozen=True)
class Prepared:
    """Loaded data, and what the manifest will hand to the task's serving module."""

    dataset: Dataset
    task_options: dict[str, Any]
    notes: Sequence[str] = field(default=())
    """Sentences for the person at the terminal and for the card."""


@dataclass(frozen=True)
class Calibration:
    """What was fitted on held-out predictions: task options that change, and figures for the evaluation."""

    task_options: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)


class TrainingTask(Protocol):
    """One implementation per task, in `scripts/tasks`."""

    @property
    def loss(self) -> Callable[[Any, Any], Any] | None:
        """From the model's outputs and the batch's labels to a scalar tensor; none: the loss of the transformers model."""
        ...

    output_axis: Axis
    auto_class: str
    """Name of the transformers Auto class that adds the head."""

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared: ...

    def head_config(self, task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments of `from_pretrained` that shape the head."""
        ...

    def serving_task(self, tokenizer: Tokenizer, task_options: Mapping[str, Any]) -> Task[Any, Any, Any]: ...

    def serving_options(self) -> Any:
        """The request options under which the model is evaluated and verified: the service's defaults."""
        ...

    def window_texts(self, examples: Sequence[Example]) -> list[Any]:
        """Texts that fit into a window of training, of a task whose service reads in the same windows; none: the service reads
        as much at once as the base model can, however long the training texts are."""
        ...

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]: ...

    def labels(self, rows: Sequence[TrainingRow], width: int) -> np.ndarray:
        """Labels of a padded batch of this many tokens, as the head's loss takes them."""
        ...

    def crop(self, one: TrainingRow, limit: int, generator: random.Random) -> TrainingRow:
        """A longer row with its label, cut to `limit` tokens for an epoch of short rows."""
        ...

    def num_correct(self, logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
        """How many of how many decisions in a batch are right: for the progress bar only."""
        ...

    def calibrate(
        self, predictions: Predictions, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> Calibration:
        """Fit what is fitted after training, on the held-out predictions."""
        ...

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Figures of production answers against the held-out truth; `headline` holds those for the manifest."""
        ...

    def item(self, fields: Mapping[str, Any]) -> Any:
        """An item of the production task from a request's fields."""
        ...

    def golden_items(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Requests to replay at every load, as the task's item fields."""
        ...

    # what follows is for models that are there already: checkpoints trained elsewhere, and published versions

    heads: tuple[str, ...]
    """Endings of the class names of the transformers models that have its head."""
    item_columns: Mapping[str, Sequence[str]]
    """Field of an item to the columns that may hold it, in lower case."""
    optional_fields: frozenset[str]
    label_columns: frozenset[str]
    """Columns that may hold what is right, in lower case."""
    long_field: str
    """The item's field that may hold a text of any length."""

    def head_refusal(self, config: Any, is_named: bool) -> str:
        """Why a checkpoint with one of its heads cannot be served for the task, as a clause, or nothing.

        Args:
            config: of transformers.
            is_named: whether somebody said that the task is this one.
        """
        ...

    def checkpoint_options(self, config: Any, labels: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Task options of a checkpoint, and notes on them.

        Raises:
            InvalidSettings: the labels do not fit.
        """
        ...

    def sample_items(self, texts: Sequence[str], sentences: Sequence[str]) -> list[dict[str, Any]]:
        """Fields of an item for each neutral text, and of pairs of sentences where there are such items."""
        ...

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        """One record to an example with the labels that the model knows.

        Raises:
            InvalidSettings: a column is missing.
        """
        ...

    def hub_metrics(self, headline: Mapping[str, Any]) -> list[str]:
        """Names of the headline's figures on the Hugging Face hub."""
        ...

"""What a task says about itself offline; everything else below `scripts` is the same for all tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec
from app.core.manifest import Decoder, Manifest
from app.core.types import Row, RowOutput
from app.data import Record
from app.tasks.base import Encoded
from app.tasks.spec import TaskSpec
from app.tasks.tokenizer import Tokenizer
from scripts.training.data import Dataset, Example, Parse, normalized
from scripts.training.data_checks import Check
from scripts.training.evaluation import Predictions, RowRunner
from scripts.training.recipe import Recipe

if TYPE_CHECKING:
    from scripts.training.columns import TableSample

Axis = Literal["row", "token", "position"]
"""What one output vector of the head belongs to; see `app.core.manifest.Output`."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row with its label, in the shape that the task's head takes."""

    row: Row
    label: Any
    teacher: np.ndarray | None = None
    """A teacher's logits of this row, where the recipe names one. (labels,); where each token has an output (tokens, labels)"""
    others: Sequence[Row] = ()
    """Of a task that compares texts: further rows of the same example, which go through the model beside it."""
    is_labelled: bool = True
    """Whether `label` says what is right; otherwise it holds the place alone, and only the teacher's logits are learnt."""

    @property
    def rows(self) -> Sequence[Row]:
        return self.row, *self.others

    @property
    def num_tokens(self) -> int:
        """Of all its rows."""
        return sum(row.num_tokens for row in self.rows)

    @property
    def longest(self) -> Row:
        return max(self.rows, key=lambda row: row.num_tokens)


@dataclass(frozen=True)
class Prepared:
    """Loaded data, and what the manifest will hand to the task's serving module."""

    dataset: Dataset
    task_options: dict[str, Any]
    notes: Sequence[str] = field(default=())
    """Sentences for the person at the terminal and for the card."""
    checks: Sequence[Check] = field(default=())
    """What may be wrong with the data."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Item fields and `label` to the columns that held them, kept with the model."""
    label_separator: str = ""
    """Between the labels of a cell, where there may be several; kept with the model."""
    num_added: int = 0
    """So many of the training rows, the last ones, nobody wrote: the task made them of the others."""

    @property
    def sentences(self) -> list[str]:
        """The notes, and what the checks found."""
        return [*self.notes, *map(str, self.checks)]

    @property
    def written(self) -> Sequence[Example]:
        """The training rows without those that the task added."""
        return self.dataset.train[: len(self.dataset.train) - self.num_added]


@dataclass(frozen=True)
class Calibration:
    """What was fitted on held-out predictions: task options that change, and metrics for the evaluation."""

    task_options: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportInput:
    """A model's answers to examples whose labels are known."""

    name: str
    """Of the model, with its version where it has one."""
    training: TrainingTask
    task_options: Mapping[str, Any]
    """What the manifest says to the task: labels, temperature, …"""
    task: Any
    """The production task that read the answers."""
    examples: Sequence[Example]
    predictions: Predictions
    runner: RowRunner | None
    """What runs the model: explanations ask it again. None: no single model gave the answers, and none is explained."""
    notes: Sequence[str] = field(default=())
    """Results of the data checks."""
    are_options_fitted: bool = False
    """Whether temperature and thresholds were fitted on these very examples, and look too good on them."""

    @property
    def lengths(self) -> list[int]:
        """Tokens that the model read of each item."""
        return [encoded.num_tokens for encoded in self.predictions.encoded]

    def error(self, index: int, words: Sequence[Any] = (), **told: Any) -> dict[str, Any]:
        """An example as a report tells of an error.

        Args:
            index: of the example.
            words: those that spoke for the answer, with their weights.
            told: figures, or in place of what is told otherwise.
        """
        example, answer = self.examples[index], self.predictions.answers[index]
        return {
            "where": example.where,
            "fields": self.training.item_fields(example.item),
            "right": self.training.label_texts(example),
            "guessed": self.training.answer_texts(answer, self.task_options),
            **told,
            "words": list(words),
        }


@dataclass(frozen=True)
class CheckpointParts:
    """Where the parts of a checkpoint lie whose layout is a task's own."""

    transformer: str
    """Folder or hub id of what transformers loads."""
    max_tokens: int = 0
    """Longest input that its makers meant, whatever its tokenizer says; 0: as of other checkpoints."""
    notes: Sequence[str] = ()
    """Sentences for the person at the terminal and for the card."""
    layout: Any = None
    """The task's own description of it."""


class TrainingTask(ABC):
    """The training half of a task: a stateless object, one per task, the `SPEC` of its module in `scripts/tasks`."""

    served: TaskSpec
    """The serving half, which encodes rows and decodes answers here too."""
    api_module: str
    """What the Python API calls it: `from hooper import text_classifier`."""
    metrics_type: type[Any]
    """The named tuple of `loss` and metrics of the headline that `Trainer.evaluate` gives."""
    auto_class: str
    """Name of the transformers Auto class that adds the head."""
    heads: tuple[str, ...]
    """Endings of the class names of the transformers models that have its head."""
    has_decoder = False
    """Whether its models write: an encoder reads a row, and a decoder writes the answer to it token by token."""
    is_teachable = False
    """Whether its models can learn from the answers of another one."""
    is_compared_with_base = False
    """Whether the base model answers without training, and is a baseline."""

    @property
    def name(self) -> str:
        """As manifests and recipes have it."""
        return self.served.name

    @property
    def output_axis(self) -> Axis:
        return self.served.output.axis

    # data

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """Of an item, with the columns that may hold them."""
        return self.served.fields

    label_field: FieldSpec
    """What is right, with the columns that may hold it."""
    long_field = "text"
    """The item's field that may hold a text of any length."""
    has_language = False
    """Whether the language of its texts matters: a recipe may then name it."""

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        """How surely data is for this task, between 0 and 1, where nobody says which task is meant: the surest one is taken.

        Args:
            recipe: the columns that a person named.
            table: the columns of the first rows of the data.
        """
        return 0.0

    @abstractmethod
    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        """Choose columns, parse, split, and derive the task's options from the training part."""

    def prepared_again(self, prepared: Prepared, dataset: Dataset, recipe: Recipe) -> Prepared:
        """The same with other training rows, which somebody wrote: what is derived from them, as the scale of numbers, is
        derived anew. The labels stay those of all rows."""
        return replace(prepared, dataset=replace(dataset, unlabelled=prepared.dataset.unlabelled), num_added=0)

    def group(self, example: Example) -> str:
        """What rows have in common that folds never part: the text but for case and spaces."""
        return normalized(example.item)

    def strata(self, example: Example) -> Sequence[str]:
        """Labels of which each fold of a cross-validation gets its share; none: folds are drawn without regard to labels."""
        return ()

    @abstractmethod
    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        """One record to an example with the labels that an existing model knows.

        Raises:
            InvalidSettings: a column is missing.
        """

    def item(self, fields: Mapping[str, Any]) -> Any:
        """An item of the production task from a request's fields."""
        return self.served.item(**fields)

    def item_fields(self, item: Any) -> dict[str, Any]:
        """The fields of an item that are there, as a person reads them."""
        return {name: value for name in item.__slots__ if (value := getattr(item, name)) is not None}

    def sample_items(self, texts: Sequence[str], sentences: Sequence[str]) -> list[dict[str, Any]]:
        """Fields of an item for each neutral text, and of pairs of sentences where there are such items."""
        return [{"text": text} for text in texts]

    golden_texts: Sequence[str] = ()
    """To replay at every load, where the recipe names none."""

    def golden_items(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Requests to replay at every load, as the task's item fields."""
        return [{"text": text} for text in recipe.golden or self.golden_texts]

    # model

    def head_config(self, task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments of `from_pretrained` that shape the head."""
        return {}

    def serving_task(
        self,
        tokenizer: Tokenizer,
        task_options: Mapping[str, Any],
        decoder: Decoder | None = None,
        target: Tokenizer | None = None,
        /,
    ) -> Any:
        """The production task, which encodes rows and decodes answers here too; see `TaskSpec.build`."""
        return self.served.build(tokenizer, task_options, decoder, target)

    def serving_options(self) -> Any:
        """The request options under which the model is evaluated and verified: the service's defaults."""
        return self.served.options()

    optional_weights: tuple[str, ...] = ()
    """Beginnings of the names of weights that a checkpoint may lack."""

    headless = ""
    """What is published of a checkpoint without a head where the task is named, as the end of a sentence; empty: nothing is."""

    def checkpoint_parts(self, location: str, is_named: bool) -> CheckpointParts | None:
        """The parts of a checkpoint that other files than transformers' own say is for this task; None: they do not.

        Args:
            location: a folder or a hub id.
            is_named: whether somebody said that the task is this one.

        Raises:
            InvalidSettings: it is, and cannot be read.
        """
        return None

    def model_class(self, config: Any) -> Any:
        """The class of transformers that loads a checkpoint with this config."""
        import transformers  # seconds, which judging a version does not take

        return getattr(transformers, self.auto_class)

    def published_layout(self, manifest: Manifest) -> Any:
        """`CheckpointParts.layout` of a published version; None: it needs none."""
        return None

    def assemble(self, body: Any, parts: CheckpointParts) -> Any:
        """The whole model, of what transformers loaded and the other parts.

        Raises:
            InvalidSettings: a part cannot be read, or does not fit.
        """
        return body

    def fits_head(self, config: Any) -> bool:
        """Whether a checkpoint with one of its heads is for this task, and not for another one with that head."""
        return True

    def is_unlikely_head(self, config: Any) -> bool:
        """Whether a checkpoint with one of its heads is rather for another task with that head, where nothing says which."""
        return False

    def head_sign(self, config: Any, pipeline_tag: str) -> str:
        """What says that a checkpoint with one of its heads is meant for this task and not for another one with that head, as a
        clause; empty: nothing does.

        Args:
            config: of transformers.
            pipeline_tag: what the checkpoint's card says that it does, in the Hub's words; empty: nothing.
        """
        return ""

    def head_refusal(self, config: Any, is_named: bool) -> str:
        """Why a checkpoint with one of its heads cannot be served for the task, as a clause, or nothing.

        Args:
            config: of transformers.
            is_named: whether somebody said that the task is this one.
        """
        return ""

    def checkpoint_options(self, config: Any, labels: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Task options of a checkpoint, and notes on them.

        Raises:
            InvalidSettings: the labels do not fit.
        """
        if labels:
            raise InvalidSettings(f"--labels are for classification, not for {self.name}")
        return {}, []

    def carried_head(
        self, weight: np.ndarray, bias: np.ndarray, before: Mapping[str, Any], now: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The output layer of a head that was trained under other task options, so that it says the same under these.

        Args:
            weight, bias: (labels, hidden) and (labels,).
            before, now: what the manifest of the trained model says to the task, and what the new one's will.

        Returns:
            Both; None where that head was for other labels or another kind of problem.
        """
        trained, wanted = self.head_config(before), self.head_config(now)
        labels, new_labels = (list(config.pop("id2label", {}).values()) for config in (trained, wanted))
        for config in (trained, wanted):
            config.pop("label2id", None)
        if trained != wanted or sorted(labels) != sorted(new_labels):
            return None
        order = [labels.index(label) for label in new_labels] or slice(None)
        return weight[order], bias[order]

    # training

    def unlabelled_target(self, task_options: Mapping[str, Any]) -> Any:
        """What stands in the place of the target of an example that only a teacher answers."""
        return ()

    def window_texts(self, examples: Sequence[Example]) -> list[Any]:
        """Texts that fit into a window of training, of a task whose service reads in the same windows; none: the service reads
        as much at once as the base model can, however long the training texts are."""
        return []

    @abstractmethod
    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        """Rows with their labels."""

    # evaluation, card, report and comparison

    fitted_options: Sequence[str] = ()
    """Task options that `calibrate` fits; a manifest without them has none."""

    def calibration_examples(self, examples: Sequence[Example]) -> Sequence[Example]:
        """What `calibrate` is given besides the held-out examples, made of them: of a kind that they lack."""
        return []

    def calibrate(
        self, predictions: Predictions, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> Calibration:
        """Fit what is fitted after training, on the held-out predictions.

        Args:
            predictions: under task options of which none is fitted.
            examples: the held-out ones, and then those that were made of them.
            tokenizer: with the longest input.
            task_options: those that are not fitted.
        """
        return Calibration()

    @abstractmethod
    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Metrics of production answers against the held-out labels; `headline` holds those for the manifest."""

    def baselines(
        self, train: Sequence[Example], examples: Sequence[Example], task_options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """Answers to `examples` of methods that need no transformer, each with a name for a person.

        Args:
            train: what they may learn from; where it is empty, only those come that learn nothing.
            examples: what they answer; their targets are not looked at.
            task_options: as the manifest has them.
        """
        yield from ()

    reference_prefixes: Sequence[str] = ()
    """Beginnings of the headline's figures that are those of a baseline or a bound, and not the model's own."""

    def metric_names(self, task_options: Mapping[str, Any]) -> Mapping[str, str]:
        """Metrics that have another name for a person than `formatting.metric_name` gives them."""
        return {}

    @abstractmethod
    def hub_metrics(self) -> list[str]:
        """Names of the headline's metrics on the Hugging Face hub."""

    @abstractmethod
    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        """What the report says beyond the metrics: at least `by_length` and `worst`."""

    @abstractmethod
    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        """The worst errors, with their texts, without explanations."""

    length_metric: str
    """What the report's `by_length` measures."""

    primary_metric: str = "accuracy"
    """The figure of the headline that two models are compared by, row by row: what `row_scores` average to."""
    primary_is_error = False
    """Whether less of it is better; then `row_scores` are negative."""

    def metric_of(self, examples: Sequence[Example]) -> str:
        """`primary_metric`, or the one that stands for it where examples are of another kind."""
        return self.primary_metric

    def is_correct(self, answer: Any, example: Example) -> bool | None:
        """Whether an answer is right; None where an answer is neither right nor wrong."""
        return None

    def row_scores(self, answers: Sequence[Any], examples: Sequence[Example]) -> np.ndarray:
        """How good each answer is in the unit of `metric_of`, the larger the better; an error is negative; (examples,).

        NaN where answers are neither right nor wrong and the task says no more.
        """
        hits = [self.is_correct(answer, example) for answer, example in zip(answers, examples, strict=True)]
        return np.array([np.nan if hit is None else float(hit) for hit in hits])

    def is_tie(self, task: Any, item: Any, encoded: Encoded, outputs: Sequence[RowOutput], other: Any, reach: float) -> bool:
        """Whether a model would have decided as another one did, had its logits moved by rounding alone.

        Args:
            task: the production task.
            item: what both were asked.
            encoded, outputs: the reference's, as `decode` takes them.
            other: the other one's answer, which is another decision.
            reach: how far two logits may move towards each other.
        """
        return False

    def distance(self, answer: Any, other: Any) -> float | None:
        """How far apart two answers are; None: they are compared by how sure the model is of them."""
        return None

    def set_difference(self, answers: Sequence[Any], others: Sequence[Any]) -> str:
        """What differs between all of two models' answers to the same items taken together, as a clause, where that says more
        than each answer for itself; empty: nothing that matters."""
        return ""

    @abstractmethod
    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        """An answer in words."""

    @abstractmethod
    def label_texts(self, example: Example) -> list[str]:
        """What is right, in words."""

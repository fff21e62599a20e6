"""The training half of text regression: a number for each text or pair of texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec
from app.data import Record
from app.data.cells import is_missing, plain
from app.tasks.fields import LABEL_COLUMNS, NUMBER_COLUMNS, POSSIBLE_NUMBERS
from app.tasks.text_classification.spec import FIELDS
from app.tasks.text_classification.task import Classification, LabelScore
from app.tasks.text_regression import SPEC as SERVED
from scripts.report.sections import MAX_ERRORS, NUM_EXPLAINED, by_length, words_for
from scripts.tasks.heads import HeadTask
from scripts.tasks.spec import Prepared, ReportInput
from scripts.tasks.texts import TextColumns, TextTraining, joined_text
from scripts.training.baselines import fit_regressor
from scripts.training.columns import LABEL as LABEL_FIELD
from scripts.training.columns import TableSample, choose_columns, finds
from scripts.training.data import Broken, Dataset, Example, Parse, by_source, load
from scripts.training.data_checks import check_texts
from scripts.training.numbers import has_decimal_commas, with_point
from scripts.training.recipe import Recipe

LABEL = "score"
"""What the one output is called in the service's answers."""
NUMBER = FieldSpec(NUMBER_COLUMNS, possible=POSSIBLE_NUMBERS)
TOLERANCE = 0.5
"""In standard deviations of the training data: so near the true value counts as right for the progress bar."""
MAX_POINTS = 1000


class RegressionMetrics(NamedTuple):
    """What `Trainer.evaluate` gives; the errors are in the data's own unit."""

    loss: float
    """Mean squared error of numbers that have the mean 0 and the deviation 1 in the training data."""
    rmse: float
    mae: float
    pearson: float
    spearman: float


class TextRegressionTraining(TextTraining):
    """An example's target is a float. The model learns values of mean 0 and deviation 1; the service turns them back."""

    served = SERVED
    api_module = "text_regressor"
    metrics_type = RegressionMetrics
    label_field = NUMBER
    length_metric = "mean absolute error"
    primary_metric = "mae"
    primary_is_error = True

    def fits_head(self, config: Any) -> bool:
        return getattr(config, "problem_type", None) in (None, "regression")

    def head_config(self, task_options: Mapping[str, Any]) -> dict[str, Any]:
        return {**super().head_config(task_options), "problem_type": "regression"}

    def carried_head(
        self, weight: np.ndarray, bias: np.ndarray, before: Mapping[str, Any], now: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same numbers, on the scale of the new rows, whatever they are called."""
        (scale, offset), (new_scale, new_offset) = (
            (options.get("scale", 1.0), options.get("offset", 0.0)) for options in (before, now)
        )
        return weight * scale / new_scale, (bias * scale + offset - new_offset) / new_scale

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        """Numbers with fractions, or many different ones in a column that is called as numbers are."""
        found = finds(self, recipe, table)
        if (
            "text" not in found
            or LABEL_FIELD not in found
            or recipe.problem_type != "auto"
            or not found[LABEL_FIELD].is_measure
        ):
            return 0.0
        label = found[LABEL_FIELD]
        is_fractional = any(not value.is_integer() for value in label.numbers)
        is_label_elsewhere = FieldSpec(LABEL_COLUMNS).find([label.name]) is not None
        return 0.8 if is_fractional or not is_label_elsewhere else 0.0

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        columns = _columns(recipe, records)
        with_commas = _with_decimal_commas(columns, records)
        dataset = load(recipe, records, _parser(columns, with_commas))
        values = np.array([example.target for example in dataset.train])
        notes = [f"{columns}; numbers from {values.min():g} to {values.max():g}, {values.mean():.4g} on average"]
        for source in with_commas:
            column = columns.columns.of(source)[LABEL_FIELD]
            notes.append(f"{source}: the numbers in column {column!r} have decimal commas: 3,5 is read as 3.5")
        checks = list(check_texts(dataset))
        return Prepared(dataset, _task_options(dataset, recipe), notes, checks, columns.columns.matches)

    def prepared_again(self, prepared: Prepared, dataset: Dataset, recipe: Recipe) -> Prepared:
        again = super().prepared_again(prepared, dataset, recipe)
        return replace(again, task_options=_task_options(dataset, recipe))

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        columns = _columns(recipe, records)
        return _parser(columns, _with_decimal_commas(columns, records))

    def checkpoint_options(self, config: Any, labels: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        if config.num_labels != 1:
            raise InvalidSettings(f"the checkpoint gives {config.num_labels} numbers a text; only one can be served")
        if len(labels) > 1:
            raise InvalidSettings(f"1 different labels are needed, not {', '.join(labels)}")
        return {"labels": list(labels) or [LABEL]}, []

    def row_labels(self, examples: Sequence[Example], task_options: Mapping[str, Any]) -> list[Any]:
        return [(example.target - task_options["offset"]) / task_options["scale"] for example in examples]

    def num_correct(self, logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
        return int((np.abs(logits[..., 0] - labels) < TOLERANCE).sum()), len(labels)

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Root mean squared and mean absolute error in the data's own unit, and both correlations; the same per source."""
        predicted, true = np.array(list(map(value_of, answers))), np.array([example.target for example in examples])
        return {
            "headline": _metrics(predicted, true),
            "by_source": by_source(examples, lambda rows: _metrics(predicted[rows], true[rows])),
        }

    def baselines(
        self, train: Sequence[Example], examples: Sequence[Example], task_options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """The mean of the training rows, and TF-IDF with ridge regression."""
        if not train:
            return
        targets = np.array([example.target for example in train])
        yield "mean of the training rows", [_answer(float(targets.mean()))] * len(examples)
        predict = fit_regressor([joined_text(example.item) for example in train], targets)
        if predict is not None:
            numbers = predict([joined_text(example.item) for example in examples])
            yield "TF-IDF + ridge regression", [_answer(float(value)) for value in numbers]

    def hub_metrics(self) -> list[str]:
        return ["mse", "mae", "pearsonr", "spearmanr"]

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        """Every value with the true one, the error by length, and the largest errors."""
        predicted, true = _values(evaluated)
        pairs = zip(true.tolist(), predicted.tolist(), strict=True)
        return {
            "points": [[round(value, 4) for value in pair] for pair in pairs][:MAX_POINTS],
            "by_length": by_length(evaluated.lengths, np.abs(predicted - true).tolist(), False),
            "worst": _worst(evaluated, MAX_ERRORS, NUM_EXPLAINED),
        }

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        return _worst(evaluated, limit, num_explained=0)

    def row_scores(self, answers: Sequence[Any], examples: Sequence[Example]) -> np.ndarray:
        predicted = np.array(list(map(value_of, answers)))
        scores: np.ndarray = -np.abs(predicted - np.array([example.target for example in examples]))
        return scores

    def distance(self, answer: Any, other: Any) -> float:
        return abs(value_of(answer) - value_of(other))

    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        return [f"{value_of(answer):.4g}"]

    def label_texts(self, example: Example) -> list[str]:
        return [str(example.target)]


SPEC: HeadTask = TextRegressionTraining()


def number(cell: Any, read: Callable[[Any], float] | None = None) -> float | None:
    """The number in a cell, or None; `read` is `read_number` where nobody says another."""
    try:
        return (read or read_number)(cell)
    except ValueError:
        return None


def read_comma_number(cell: Any) -> float:
    """The number in a cell of a column with decimal commas.

    Raises:
        ValueError: as for `read_number`.
    """
    return read_number(with_point(cell) if isinstance(cell, str) else cell)


def read_number(cell: Any) -> float:
    """
    Raises:
        ValueError: there is none, in words that go before "in column …".
    """
    cell = plain(cell)
    if is_missing(cell) or isinstance(cell, bool) or not isinstance(cell, int | float | str):
        raise ValueError("no number")
    try:
        value = float(cell.replace("_", " ") if isinstance(cell, str) else cell)  # Python would take 1_000 for a thousand
    except ValueError:
        advice = "; write all numbers of a column with a point, or all with a comma, and thousands without a sign"
        comma = advice if "," in str(cell) else ""
        raise ValueError(f"no number ({str(cell)[:20]!r}{comma})") from None
    if not math.isfinite(value):
        raise ValueError(f"no finite number ({str(cell)[:20]!r})")
    return value


def _answer(value: float) -> Classification:
    return Classification([LabelScore(LABEL, value)])


def value_of(answer: Classification) -> float:
    return answer.labels[0].score


def _columns(recipe: Recipe, records: Mapping[str, Sequence[Record]]) -> TextColumns:
    return TextColumns(choose_columns(FIELDS, NUMBER, recipe, records, "number"))


def _with_decimal_commas(columns: TextColumns, records: Mapping[str, Sequence[Record]]) -> list[str]:
    """The sources whose column of numbers is written with decimal commas."""
    return [source for source, rows in records.items() if has_decimal_commas(columns.labels({source: rows}))]


def _parser(columns: TextColumns, with_commas: Sequence[str]) -> Parse:
    def parse(record: Record, source: str) -> Example | Broken:
        return columns.parse(record, source, read_comma_number if source in with_commas else read_number)

    return parse


def _task_options(dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    if recipe.label_smoothing:
        raise InvalidSettings(f"label_smoothing is {recipe.label_smoothing}, but numbers cannot be smoothed; leave it out")
    values = np.array([example.target for example in dataset.train])
    if np.ptp(values) == 0:
        raise InvalidSettings(f"every training row has the number {values[0]:g}; two different ones are needed")
    return {
        "labels": [LABEL],
        "value_range": [float(f"{values.min():.6g}"), float(f"{values.max():.6g}")],
        "scale": float(f"{values.std():.6g}"),
        "offset": float(f"{values.mean():.6g}"),
    }


def _metrics(predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    errors = predicted - true
    return {
        "rmse": round(float(np.sqrt((errors**2).mean())), 4),
        "mae": round(float(np.abs(errors).mean()), 4),
        "pearson": round(correlation(predicted, true), 4),
        "spearman": round(correlation(rankdata(predicted), rankdata(true)), 4),
        "rows": len(true),
    }


def correlation(values: np.ndarray, others: np.ndarray) -> float:
    """0 where one of them does not vary."""
    varies = len(values) > 1 and np.ptp(values) > 0 and np.ptp(others) > 0
    return float(np.corrcoef(values, others)[0, 1]) if varies else 0.0


def _worst(evaluated: ReportInput, limit: int, num_explained: int) -> list[dict[str, Any]]:
    """The largest errors first; of the first ones with what each word added to the number."""
    predicted, true = _values(evaluated)
    errors = np.abs(predicted - true)
    return [
        evaluated.error(
            index,
            words_for(evaluated, int(index), None) if number < num_explained else (),
            right=[f"{true[index]:.4g}"],
            loss=round(float(errors[index]), 4),
        )
        for number, index in enumerate(np.argsort(-errors, kind="stable")[:limit])
    ]


def _values(evaluated: ReportInput) -> tuple[np.ndarray, np.ndarray]:
    predicted = np.array([value_of(answer) for answer in evaluated.predictions.answers])
    return predicted, np.array([example.target for example in evaluated.examples])

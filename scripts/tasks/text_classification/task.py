"""The training half of text classification: label sets, metrics per class, a fitted temperature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec
from app.core.types import RowOutput
from app.data import Record
from app.tasks.base import Encoded
from app.tasks.fields import LABEL_COLUMNS, POSSIBLE_LABELS, RATING_COLUMNS
from app.tasks.labels import clean_label
from app.tasks.text_classification.spec import FIELDS
from app.tasks.text_classification.spec import SPEC as SERVED
from app.tasks.text_classification.task import (
    DEFAULT_THRESHOLD,
    Classification,
    ClassificationOptions,
    LabelScore,
    ProblemType,
)
from app.tasks.tokenizer import Tokenizer
from app.tasks.zero_shot_classification.entailment import entailment_labels
from scripts.tasks.heads import HeadTask, checkpoint_labels
from scripts.tasks.spec import Calibration, Prepared, ReportInput
from scripts.tasks.text_classification import report, scores, thresholds
from scripts.tasks.text_classification.labels import MULTI, NO_LABEL, LabelKind, refuse_identifiers, whole_number
from scripts.tasks.text_regression import number
from scripts.tasks.texts import TextColumns, TextTraining, joined_text
from scripts.training.baselines import fit_classifier
from scripts.training.columns import LABEL, TableSample, choose_columns, finds
from scripts.training.data import Broken, Dataset, Example, Parse, by_source, load
from scripts.training.data_checks import check_labels, check_texts
from scripts.training.evaluation import Predictions
from scripts.training.recipe import Recipe

LABEL_FIELD = FieldSpec((*LABEL_COLUMNS, *RATING_COLUMNS), possible=POSSIBLE_LABELS)
MAX_NUMBERS = 10
"""Of more labels that are numbers it is asked whether they are not meant as such."""


class ClassificationMetrics(NamedTuple):
    """What `Trainer.evaluate` gives."""

    loss: float
    """Mean cross entropy (several labels: binary) in nats."""
    accuracy: float
    """Share of texts whose label (several: whose whole set of labels) is right, 0 to 1."""


class TextClassificationTraining(TextTraining):
    """An example's target is a label, or a tuple of them where a text may have several."""

    served = SERVED
    api_module = "text_classifier"
    is_teachable = True
    metrics_type = ClassificationMetrics
    label_field = LABEL_FIELD
    length_metric = "accuracy"

    def fits_head(self, config: Any) -> bool:
        return getattr(config, "problem_type", None) != "regression"

    def is_unlikely_head(self, config: Any) -> bool:
        return bool(config.num_labels == 1 and config.problem_type is None)  # for transformers, too, one output is a number

    def head_config(self, task_options: Mapping[str, Any]) -> dict[str, Any]:
        return {**super().head_config(task_options), "problem_type": task_options["problem_type"]}

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        """A text and a label; of other data the question which column is which is this task's, too."""
        return 0.5 if {"text", LABEL} <= finds(self, recipe, table).keys() else 0.1

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        """Choose columns, parse, split, and take the label set from the training part."""
        columns, kind = read_columns(recipe, records)
        multi = kind.multi_label
        refuse_identifiers(columns.label, columns.labels(records), multi)
        dataset = load(
            recipe,
            records,
            partial(columns.parse, read_label=kind.read),
            lambda example: repr(example.target),
        )
        labels = sorted({label for example in dataset.train for label in (example.target if multi else [example.target])})
        if len(labels) < 2:
            raise InvalidSettings(f"the training data has only one label ({labels[0] if labels else 'none'}); two are needed")
        dataset = _without_unknown_labels(dataset, set(labels), multi, recipe.max_bad_share)
        problem: ProblemType = "multi_label_classification" if multi else "single_label_classification"
        notes = [f"{columns}; {len(labels)} labels", *_perhaps_numbers(labels, multi), *kind.notes]
        checks = [*check_labels(dataset, multi), *check_texts(dataset)]
        options = {"labels": labels, "problem_type": problem}
        return Prepared(dataset, options, notes, checks, columns.columns.matches, kind.separator if kind.is_separated else "")

    def strata(self, example: Example) -> Sequence[str]:
        return self.label_texts(example)

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        labels = task_options["labels"]
        minus_one = "class" if NO_LABEL in map(whole_number, labels) else recipe.minus_one
        columns, kind = read_columns(replace(recipe, problem_type=task_options["problem_type"], minus_one=minus_one), records)
        return lambda record, source: _with_known_labels(columns.parse(record, source, kind.read), labels)

    def checkpoint_options(self, config: Any, labels: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        names, notes = checkpoint_labels(config, labels)
        # a single output is a yes or no, and its score a sigmoid: so it is decided at 0.5, as labels that do not exclude
        # each other
        multi = config.problem_type == MULTI or len(names) == 1
        if not multi and entailment_labels(names) is not None:
            notes.append("its labels are those of natural language inference: it answers POST /v1/zero-shot, too")
        return {"labels": names, "problem_type": f"{'multi' if multi else 'single'}_label_classification"}, notes

    def row_labels(self, examples: Sequence[Example], task_options: Mapping[str, Any]) -> list[Any]:
        index = {label: number for number, label in enumerate(task_options["labels"])}
        if _is_multi(task_options):
            return [[float(label in example.target) for label in index] for example in examples]
        return [index[example.target] for example in examples]

    def unlabelled_target(self, task_options: Mapping[str, Any]) -> Any:
        return () if _is_multi(task_options) else task_options["labels"][0]

    def num_correct(self, logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
        if labels.ndim == 1:
            return int((logits.argmax(-1) == labels).sum()), len(labels)
        return int(((logits > 0) == (labels > 0.5)).all(-1).sum()), len(labels)

    fitted_options = ("temperature", "thresholds")

    def calibrate(
        self, predictions: Predictions, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> Calibration:
        """The temperature under which scores are probabilities of being right, where enough rows show that it makes them so;
        where a text may have several labels, then the threshold of each."""
        truth, logits, multi = scores.truth_of(examples, task_options), scores.logits_of(predictions), _is_multi(task_options)
        scaled = scores.fit(logits, truth, multi, [example.source for example in examples])
        if not multi:
            return scaled
        probabilities = scores.scores_of(logits, scaled.task_options.get("temperature", 1.0), multi)
        metrics = thresholds.evaluate(probabilities, truth, task_options["labels"])
        own = {entry["label"]: entry["threshold"] for entry in metrics["per_label"]}
        if all(threshold == DEFAULT_THRESHOLD for threshold in own.values()):
            return scaled
        return Calibration({**scaled.task_options, "thresholds": own}, {**scaled.metrics, "thresholds": metrics})

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Accuracy (multi-label: of the whole set), macro F1, a table per class, and the same per source."""
        labels, multi = task_options["labels"], _is_multi(task_options)
        truth = np.array([_indicator(example.target if multi else [example.target], labels) for example in examples])
        guess = np.array([_indicator(self.answer_texts(answer, task_options), labels) for answer in answers])
        precision, recall, f1, support = precision_recall_fscore_support(truth, guess, zero_division=0)
        accuracy = float(accuracy_score(truth, guess))
        macro_f1 = float(f1_score(truth, guess, average="macro", zero_division=0))
        is_right = (truth == guess).all(-1)
        return {
            "headline": {"accuracy": round(accuracy, 4), "macro_f1": round(macro_f1, 4), "rows": len(examples)},
            "by_source": by_source(
                examples, lambda rows: {"accuracy": round(float(np.mean(is_right[rows])), 4), "rows": len(rows)}
            ),
            "per_class": {
                label: {
                    "precision": round(float(precision[i]), 4),
                    "recall": round(float(recall[i]), 4),
                    "f1": round(float(f1[i]), 4),
                    "rows": int(support[i]),
                }
                for i, label in enumerate(labels)
            },
        }

    def baselines(
        self, train: Sequence[Example], examples: Sequence[Example], task_options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """The most frequent label (several a text: set of labels), and TF-IDF with logistic regression."""
        if not train:
            return
        labels, multi = task_options["labels"], _is_multi(task_options)
        frequent = Counter(example.target for example in train).most_common(1)[0][0]
        majority = Classification([LabelScore(label, 1.0) for label in (frequent if multi else (frequent,))])
        yield "majority label set" if multi else "majority class", [majority] * len(examples)
        indicators = scores.truth_of(train, task_options)
        targets = indicators if multi else indicators.argmax(-1)
        predict = fit_classifier([joined_text(example.item) for example in train], targets, len(labels))
        if predict is not None:
            table = predict([joined_text(example.item) for example in examples])
            yield "TF-IDF + logistic regression", [_from_scores(row, labels, multi) for row in table]

    def metric_names(self, task_options: Mapping[str, Any]) -> Mapping[str, str]:
        return {"accuracy": "subset accuracy (exact match)"} if _is_multi(task_options) else {}

    def hub_metrics(self) -> list[str]:
        return ["accuracy", "f1"]

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        return report.sections(evaluated)

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        return report.worst(evaluated, report.ClassScores.of(evaluated), limit, num_explained=0)

    def is_tie(self, task: Any, item: Any, encoded: Encoded, outputs: Sequence[RowOutput], other: Any, reach: float) -> bool:
        """Of one label, whether the other one's is within reach of the best; of several, whether each that is decided otherwise
        is within reach of even odds."""
        answer = task.decode(encoded, outputs, ClassificationOptions(activation="none", top_k=len(task.labels)))
        logits = {entry.label: entry.score for entry in answer.labels}
        multi = task.may_have_several
        if not multi:
            return bool(answer.labels[0].score - logits[other.labels[0].label] < reach)
        changed = {label for label, logit in logits.items() if logit > 0} ^ set(_decided(other, multi))
        return all(abs(logits[label]) < reach for label in changed)

    def is_correct(self, answer: Any, example: Example) -> bool:
        multi = isinstance(example.target, tuple)
        return set(_decided(answer, multi)) == set(self.label_texts(example))

    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        return _decided(answer, _is_multi(task_options))

    def label_texts(self, example: Example) -> list[str]:
        return list(example.target) if isinstance(example.target, tuple) else [example.target]


SPEC: HeadTask = TextClassificationTraining()


def _is_multi(task_options: Mapping[str, Any]) -> bool:
    return bool(task_options["problem_type"] == MULTI)


def _decided(answer: Classification, multi: bool) -> list[str]:
    if multi:
        return [score.label for score in answer.labels if score.score > 0.5]
    return [answer.labels[0].label]


def _from_scores(row: np.ndarray, labels: Sequence[str], multi: bool) -> Classification:
    """Of a baseline: the labels that it decides for. Args: scores between 0 and 1, (labels,)."""
    indices = np.flatnonzero(row > 0.5) if multi else [row.argmax()]
    return Classification([LabelScore(labels[int(index)], float(row[index])) for index in indices])


def _indicator(members: Sequence[str], labels: Sequence[str]) -> list[int]:
    return [int(label in members) for label in labels]


def read_columns(recipe: Recipe, records: Mapping[str, Sequence[Record]]) -> tuple[TextColumns, LabelKind]:
    columns = TextColumns(choose_columns(FIELDS, LABEL_FIELD, recipe, records))
    return columns, LabelKind.of(recipe, columns.labels(records))


def _perhaps_numbers(labels: Sequence[str], multi: bool) -> Iterator[str]:
    if not multi and len(labels) > MAX_NUMBERS and all(number(label) is not None for label in labels):
        yield f"all {len(labels)} labels are numbers; --task text-regression learns them as such"


def _without_unknown_labels(dataset: Dataset, known: set[str], multi: bool, limit: float) -> Dataset:
    """Held-out rows whose label training never saw cannot be evaluated: they count as invalid."""
    readable, broken = [], list(dataset.broken)
    for example in dataset.validation:
        unknown = set(example.target if multi else [example.target]) - known
        if unknown:
            broken.append(Broken(example.where, f"label {min(unknown)!r} is not in the training data"))
        else:
            readable.append(example)
    num_unknown = len(dataset.validation) - len(readable)
    if (dataset.validation and not readable) or num_unknown > limit * len(dataset.validation):
        last = broken[-1]
        raise InvalidSettings(
            f"{num_unknown} of {len(dataset.validation)} held-out rows have a label that training never saw,"
            f" for example {last.where} ({last.why})"
        )
    return replace(dataset, validation=readable, broken=broken)


def _with_known_labels(example: Example | Broken, labels: Sequence[str]) -> Example | Broken:
    """The example with the model's own labels; data sets often hold their numbers instead."""
    if isinstance(example, Broken):
        return example
    target = example.target if isinstance(example.target, tuple) else (example.target,)
    known = [_known_label(label, labels) for label in target]
    if None in known:
        unknown = target[known.index(None)]
        return Broken(example.where, f"label {unknown!r} is none of the model's: {', '.join(labels[:10])}")
    return replace(example, target=tuple(known) if isinstance(example.target, tuple) else known[0])


def _known_label(label: str, labels: Sequence[str]) -> str | None:
    if label in labels:
        return label
    cleaned = [clean_label(known) for known in labels]
    if label in cleaned:
        return labels[cleaned.index(label)]
    numbers = [whole_number(known) for known in cleaned]  # of a model that learnt 1.0
    if label in numbers:
        return labels[numbers.index(label)]
    return labels[int(label)] if label.isdecimal() and int(label) < len(labels) else None

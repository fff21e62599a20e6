"""Text classification offline: guessed columns, label sets, figures per class."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from app.core.errors import InvalidSettings
from app.core.types import Row
from app.data import Record
from app.data.cells import plain
from app.tasks.labels import clean_label
from app.tasks.manifest_options import checked_options
from app.tasks.text_classification.task import (
    MAX_PAIR_CHARACTERS,
    Classification,
    ClassificationItem,
    ClassificationOptions,
    ProblemType,
    TextClassification,
)
from app.tasks.tokenizer import Tokenizer, encodable
from scripts.tasks import regression
from scripts.tasks.spec import Axis, Calibration, Prepared, TrainingRow, TrainingTask
from scripts.tasks.text_classification import scores as class_scores
from scripts.tasks.text_classification.labels import NO_LABEL, LabelKind, whole_number
from scripts.training.data import Broken, Dataset, Example, Parse, check_labels, check_texts, first_readable, load
from scripts.training.evaluation import Predictions, encode_all
from scripts.training.recipe import Recipe

TEXT_NAMES = ("text", "sentence", "review", "content", "body", "utterance", "query", "question", "message", "title")
LABEL_NAMES = ("label", "labels", "category", "class", "target", "intent", "sentiment", "topic", "tag", "tags")
REGRESSION = "regression"
MOST_NUMBERS = 10
"""Of more labels that are numbers it is asked whether they are not meant as such."""
PAIR_NAMES = (("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"))
PROBES = (
    "This was exactly what I hoped for, thank you.",
    "It broke after two days and nobody answers my messages.",
    "Where can I find the opening hours?",
    "The meeting has been moved to Thursday at noon.",
    "Ünïcödé, 数字 and emoji 🙂 are text too.",
    "no",
)


class TextClassificationTraining:
    """Satisfies `TrainingTask`."""

    loss = None
    output_axis: Axis = "row"
    auto_class = "AutoModelForSequenceClassification"
    heads: tuple[str, ...] = ("ForSequenceClassification",)
    item_columns: Mapping[str, Sequence[str]] = {"text": TEXT_NAMES, "text_pair": ("text_pair",)}
    optional_fields = frozenset({"text_pair"})
    label_columns = frozenset((*LABEL_NAMES, *regression.NUMBER_NAMES))
    long_field = "text"

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        """Choose columns, parse, split, and settle the label set from the training part."""
        columns = Columns.choose(recipe, records)
        multi = columns.multi_label
        if columns.is_number:
            return self._numbers(recipe, columns, load(recipe, records, columns.parse))
        dataset = load(recipe, records, columns.parse, lambda one: repr(one.target), correction=columns.of_corrections().parse)
        counts = Counter(label for one in dataset.train for label in (one.target if multi else [one.target]))
        labels = sorted(counts)
        if len(labels) < 2:
            raise InvalidSettings(f"the training data has only one label ({labels[0] if labels else 'none'}); two are needed")
        dataset = _without_unknown_labels(dataset, set(labels), multi, recipe.max_bad_share)
        problem: ProblemType = "multi_label_classification" if multi else "single_label_classification"
        notes = [f"{columns}; {len(labels)} labels", *_perhaps_numbers(labels, multi), *columns.kind.notes]
        notes += [*check_labels(dataset, multi), *check_texts(dataset)]
        return Prepared(dataset, {"labels": labels, "problem_type": problem}, notes)

    def _numbers(self, recipe: Recipe, columns: Columns, dataset: Dataset) -> Prepared:
        notes = [f"{columns}; {regression.note(dataset)}", *check_texts(dataset)]
        return Prepared(dataset, regression.task_options(dataset, recipe), notes)

    def head_config(self, task_options: Mapping[str, Any]) -> dict[str, Any]:
        labels = task_options["labels"]
        return {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
            "problem_type": task_options["problem_type"],
        }

    def serving_task(self, tokenizer: Tokenizer, task_options: Mapping[str, Any]) -> TextClassification:
        return TextClassification(tokenizer, **checked_options(TextClassification, task_options))

    def serving_options(self) -> ClassificationOptions:
        return ClassificationOptions()

    def window_texts(self, examples: Sequence[Example]) -> list[Any]:
        return []

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        index = {label: number for number, label in enumerate(task_options["labels"])}
        task = self.serving_task(tokenizer, task_options)
        # one row each, however long: a later window alone need not say what the whole text is labelled for
        encoded = encode_all(task, ClassificationOptions(truncation="truncate"), [one.item for one in examples])
        rows = []
        for one, coded in zip(examples, encoded, strict=True):
            if task_options["problem_type"] == REGRESSION:
                label: Any = (one.target - task_options["offset"]) / task_options["scale"]
            elif task_options["problem_type"] == "multi_label_classification":
                label = [float(name in one.target) for name in index]
            else:
                label = index[one.target]
            rows.append(TrainingRow(coded.rows[0], label))
        return rows

    def labels(self, rows: Sequence[TrainingRow], width: int) -> np.ndarray:
        made = np.array([one.label for one in rows])
        return made.astype(np.float32) if made.dtype == np.float64 else made

    def crop(self, one: TrainingRow, limit: int, generator: random.Random) -> TrainingRow:
        return TrainingRow(head_and_tail(one.row, limit), one.label)

    def num_correct(self, logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
        if logits.shape[-1] == 1 and labels.ndim == 1:
            return int((np.abs(logits[..., 0] - labels) < regression.HALF).sum()), len(labels)
        if labels.ndim == 1:
            return int((logits.argmax(-1) == labels).sum()), len(labels)
        return int(((logits > 0) == (labels > 0.5)).all(-1).sum()), len(labels)

    def calibrate(
        self, predictions: Predictions, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> Calibration:
        """The temperature under which scores are probabilities of being right, where enough rows show that it makes them so."""
        if len(examples) < class_scores.FEWEST_ROWS or task_options["problem_type"] == REGRESSION:
            return Calibration()
        multi = task_options["problem_type"] == "multi_label_classification"
        return class_scores.fit(class_scores.logits_of(predictions), class_scores.truth_of(examples, task_options), multi)

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Accuracy (multi-label: of the whole set), macro F1, a table per class, and the same per source. Of numbers:
        their errors and correlations."""
        if task_options["problem_type"] == REGRESSION:
            return regression.figures(answers, examples)
        labels = task_options["labels"]
        multi = task_options["problem_type"] == "multi_label_classification"
        truth = np.array([_indicator(one.target if multi else [one.target], labels) for one in examples])
        guess = np.array([_indicator(_decided(answer, multi), labels) for answer in answers])
        precision, recall, f1, support = precision_recall_fscore_support(truth, guess, zero_division=0)
        accuracy = float(accuracy_score(truth, guess))
        macro_f1 = float(f1_score(truth, guess, average="macro", zero_division=0))
        by_source: dict[str, list[bool]] = defaultdict(list)
        for one, right in zip(examples, (truth == guess).all(-1), strict=True):
            by_source[one.source].append(bool(right))
        return {
            "headline": {"accuracy": round(accuracy, 4), "macro_f1": round(macro_f1, 4), "rows": len(examples)},
            "by_source": {
                source: {"accuracy": round(float(np.mean(right)), 4), "rows": len(right)} for source, right in by_source.items()
            },
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

    def item(self, fields: Mapping[str, Any]) -> ClassificationItem:
        return ClassificationItem(**fields)

    def golden_items(self, recipe: Recipe) -> list[dict[str, Any]]:
        return [{"text": text} for text in recipe.golden or PROBES]

    def head_refusal(self, config: Any, is_named: bool) -> str:
        return ""

    def checkpoint_options(self, config: Any, labels: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        names = list(labels) or [str(config.id2label[index]) for index in range(config.num_labels)]
        if len(names) != config.num_labels or len(set(names)) != len(names):
            raise InvalidSettings(f"{config.num_labels} different labels are needed, not {', '.join(names)}")
        if config.problem_type == REGRESSION:
            if len(names) > 1:
                raise InvalidSettings(f"the checkpoint gives {len(names)} numbers a text; only one can be served")
            return {"labels": list(labels) or [regression.LABEL], "problem_type": REGRESSION}, []
        notes = []
        if all(name.startswith("LABEL_") for name in names):
            notes.append(f"the checkpoint does not name its labels: {', '.join(names)}; say --labels NAME … to name them")
        # a single output is a yes or no, and its score a sigmoid: so it is decided at 0.5, as labels that do not exclude
        # each other
        multi = config.problem_type == "multi_label_classification" or len(names) == 1
        return {"labels": names, "problem_type": f"{'multi' if multi else 'single'}_label_classification"}, notes

    def sample_items(self, texts: Sequence[str], sentences: Sequence[str]) -> list[dict[str, Any]]:
        pairs = zip(sentences[:8], sentences[8:16], strict=True)
        return [*({"text": text} for text in texts), *({"text": text, "text_pair": pair} for text, pair in pairs)]

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        labels, problem_type = task_options["labels"], task_options["problem_type"]
        minus_one = "class" if NO_LABEL in map(whole_number, labels) else recipe.minus_one
        columns = Columns.choose(replace(recipe, problem_type=problem_type, minus_one=minus_one), records)
        if problem_type == REGRESSION:
            return columns.parse
        return lambda record, source: _with_known_labels(columns.parse(record, source), labels)

    def hub_metrics(self, headline: Mapping[str, Any]) -> list[str]:
        return ["mse", "mae", "pearsonr", "spearmanr"] if "rmse" in headline else ["accuracy", "f1"]


class Columns:
    """Which columns hold text, pair and label, and how to parse a record with them."""

    def __init__(self, text: str, pair: str, label: str, kind: LabelKind, is_number: bool = False) -> None:
        self.text, self.pair, self.label = text, pair, label
        self.kind, self.is_number = kind, is_number

    @property
    def multi_label(self) -> bool:
        return self.kind.multi_label

    def __str__(self) -> str:
        pair = f" and {self.pair!r}" if self.pair else ""
        return f"text from column {self.text!r}{pair}, label from {self.label!r}"

    @classmethod
    def choose(cls, recipe: Recipe, records: Mapping[str, Sequence[Record]]) -> Columns:
        """From the recipe, else from names everybody uses, else with a clear question.

        Raises:
            InvalidSettings: a named column does not exist, the right one is not obvious, or labels may be meant otherwise.
        """
        first = first_readable(records)
        present = list(first.columns)
        text, pair = recipe.text_column, recipe.text_pair_column
        if not text:
            pairs = [found for found in PAIR_NAMES if set(found) <= set(present)]
            text, guessed = pairs[0] if pairs else (_guess("text", TEXT_NAMES, present), "")
            pair = pair or guessed
        is_number = recipe.problem_type == REGRESSION
        names = regression.NUMBER_NAMES if is_number else LABEL_NAMES
        label = recipe.label_column or _guess("label", names, [name for name in present if name not in (text, pair)])
        for option, name in (("--text-column", text), ("--text-pair-column", pair), ("--label-column", label)):
            if name and name not in present:
                raise InvalidSettings(f"{option}: {first.where} has no column {name!r}; it has {', '.join(present)}")
        cells = [record.columns.get(label) for rows in records.values() for record in rows if not record.broken]
        kind = LabelKind() if is_number else LabelKind.of(recipe, cells)
        return cls(text, pair, label, kind, is_number)

    def of_corrections(self) -> Columns:
        """The same for corrections, whose columns have the names of the service's own fields."""
        return Columns("text", "text_pair" if self.pair else "", "label", self.kind)

    def parse(self, record: Record, source: str) -> Example | Broken:
        if record.broken:
            return Broken(record.where, record.broken)
        texts = []
        for column in filter(None, (self.text, self.pair)):
            value = plain(record.columns.get(column))
            if value is None:
                return Broken(record.where, f"missing column {column!r}")
            if not isinstance(value, str):
                return Broken(record.where, f"{column!r} is not text")
            if not value.strip():
                return Broken(record.where, "empty text")
            if not encodable(value):
                return Broken(record.where, "not valid Unicode")
            texts.append(value)
        if len(texts) == 2 and sum(map(len, texts)) > MAX_PAIR_CHARACTERS:
            return Broken(
                record.where, f"the pair has {sum(map(len, texts)):,} characters, at most {MAX_PAIR_CHARACTERS:,} are read"
            )
        cell = record.columns.get(self.label)
        try:
            target = regression.read_number(cell) if self.is_number else self.kind.read(cell)
        except ValueError as error:
            return Broken(record.where, f"{error} in column {self.label!r}")
        return Example(ClassificationItem(*texts), target, source, record.where)


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


def _perhaps_numbers(labels: Sequence[str], multi: bool) -> Iterator[str]:
    if not multi and len(labels) > MOST_NUMBERS and all(regression.number(one) is not None for one in labels):
        yield f"all {len(labels)} labels are numbers; --problem-type regression learns them as such"


def _guess(what: str, names: Sequence[str], present: Sequence[str]) -> str:
    lowered = {name.lower(): name for name in present}
    found = [lowered[name] for name in names if name in lowered]
    if found:
        return found[0]
    raise InvalidSettings(
        f"which column holds the {what}? The data has {', '.join(map(repr, present))}; say --{what}-column NAME"
    )


def _without_unknown_labels(dataset: Dataset, known: set[str], multi: bool, limit: float) -> Dataset:
    """Held-out rows whose label training never saw cannot be judged: they count as broken."""
    kept, broken = [], list(dataset.broken)
    for one in dataset.validation:
        unknown = set(one.target if multi else [one.target]) - known
        if unknown:
            broken.append(Broken(one.where, f"label {min(unknown)!r} is not in the training data"))
        else:
            kept.append(one)
    num_unknown = len(dataset.validation) - len(kept)
    if not kept or num_unknown > limit * len(dataset.validation):
        named = broken[-1]
        raise InvalidSettings(
            f"{num_unknown} of {len(dataset.validation)} held-out rows have a label that training never saw,"
            f" for example {named.where} ({named.why})"
        )
    return replace(dataset, validation=kept, broken=broken)


def _decided(answer: Classification, multi: bool) -> list[str]:
    if multi:
        return [score.label for score in answer.labels if score.score > 0.5]
    return [answer.labels[0].label]


def _indicator(chosen: Sequence[str], labels: Sequence[str]) -> list[int]:
    return [int(label in chosen) for label in labels]


def head_and_tail(row: Row, limit: int) -> Row:
    """The row's first and last tokens, `limit` in all: both ends of a text say more than its middle."""
    if row.num_tokens <= limit:
        return row
    tail = limit // 2
    head = limit - tail
    ids, types = list(row.input_ids), list(row.token_type_ids)
    return Row(ids[:head] + ids[-tail:], types[:head] + types[-tail:])


SPEC: TrainingTask = TextClassificationTraining()

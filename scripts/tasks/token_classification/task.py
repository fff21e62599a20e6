"""Token classification offline: the first token of each word learns the word's tag; entities are judged whole."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec, column_key
from app.core.types import Row
from app.data import Record
from app.tasks.token_classification.spec import SPEC as SERVED
from app.tasks.token_classification.task import (
    OUTSIDE,
    Entity,
    Key,
    TextReading,
    TokenClassification,
    keys_of,
    label_parts,
    own_spans,
)
from app.tasks.tokenizer import Tokenizer
from scripts.report.sections import MAX_ERRORS, by_length
from scripts.tasks.heads import HeadTask, checkpoint_labels, named_head
from scripts.tasks.spec import Calibration, Prepared, ReportInput, TrainingRow
from scripts.tasks.token_classification.spans import (
    ENTITIES,
    TAGS,
    Scheme,
    Span,
    TagColumns,
    labels_for,
    scheme_of,
    tags_for,
)
from scripts.training.calibration import SCORE_OPTIONS, Decisions, scale_scores
from scripts.training.columns import LABEL, TableSample
from scripts.training.data import Broken, Example, Parse, by_source, load
from scripts.training.data_checks import check_texts
from scripts.training.evaluation import Predictions, encode_all
from scripts.training.recipe import Recipe

NO_LABEL = -100
"""What torch's cross entropy leaves out: padding, special tokens, and all tokens of a word but its first."""
TELLING_COLUMNS = ({"tokens", "tags"}, {"tokens", "nertags"}, {"tokens", "upos"}, {"text", "entities"})
"""Columns that no other task's data has, as `column_key` spells them."""
SAMPLE_TEXTS = (
    "Angela Merkel visited the Siemens works in Berlin on Tuesday.",
    "The Rhine rises in Switzerland and flows through Cologne.",
    "Werder Bremen beat Real Madrid 2-1 in Spain.",
    "Nobody came, and nothing happened.",
    "Zoë Müller moved from 東京 to São Paulo.",
)


class TagMetrics(NamedTuple):
    """What `Trainer.evaluate` gives; of whole entities, 0 to 1."""

    loss: float
    """Mean cross entropy in nats, per word."""
    f1: float


class TokenClassificationTraining(HeadTask):
    """Satisfies `TrainingTask`. An example's target is a tuple of `Span`."""

    served = SERVED
    api_module = "token_classifier"
    is_teachable = True
    metrics_type = TagMetrics
    auto_class = "AutoModelForTokenClassification"
    heads: tuple[str, ...] = ("ForTokenClassification",)
    golden_texts = SAMPLE_TEXTS
    label_field = FieldSpec(tuple(dict.fromkeys([*TAGS.columns, *ENTITIES.columns])))
    length_metric = "F1"
    primary_metric = "f1"

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        """Tokens with their tags, or texts with entities; names that classifiers have, too, say nothing here."""
        names = {column_key(name) for name in table.names}
        return 0.9 if any(pair <= names for pair in TELLING_COLUMNS) else 0.0

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        """Tagged tokens or marked texts; the label set from the training part."""
        columns = TagColumns.choose(recipe, records)
        correction = partial(columns.of_corrections().parse)
        dataset = load(recipe, records, columns.parse, correction=correction)
        types = sorted({span.label for example in dataset.train for span in example.target})
        if not types:
            raise InvalidSettings("the training data has no entity: nothing can be learnt")
        tags = Counter(tag for rows in records.values() for record in rows for tag in columns.tags_of(record))
        scheme = scheme_of(tags if columns.are_tokens else Counter(), len(types))
        labels = labels_for(types, scheme, not columns.are_tokens or any(tag.upper() == OUTSIDE for tag in tags))
        if len(labels) < 2:
            raise InvalidSettings(f"the training data has only one label ({labels[0]}); two are needed")
        known = [example for example in dataset.validation if {span.label for span in example.target} <= set(types)]
        broken = [
            Broken(example.where, "an entity's label is not in the training data")
            for example in dataset.validation
            if example not in known
        ]
        if dataset.validation and not known:
            raise InvalidSettings("no held-out row has only labels of the training data")
        dataset = replace(dataset, validation=known, broken=[*dataset.broken, *broken])
        note = f"{columns}; {len(types)} kinds of entities, tags in the scheme {scheme}"
        matches = {"text": columns.text, LABEL: columns.tags}
        return Prepared(dataset, {"labels": labels}, [note], list(check_texts(dataset)), matches)

    def strata(self, example: Example) -> Sequence[str]:
        return sorted({span.label for span in example.target})

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        columns = TagColumns.choose(recipe, records)
        known = {part.type for part in label_parts(task_options["labels"])}

        def parse(record: Record, source: str) -> Example | Broken:
            example = columns.parse(record, source, task_options["labels"])
            unknown = set() if isinstance(example, Broken) else {span.label for span in example.target} - known
            return Broken(record.where, f"label {min(unknown)!r} is none of the model's") if unknown else example

        return parse

    def head_config(self, task_options: Mapping[str, Any]) -> dict[str, Any]:
        return named_head(task_options["labels"])

    def fits_head(self, config: Any) -> bool:
        return bool(config.num_labels > 1)

    def checkpoint_options(self, config: Any, labels: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        names, notes = checkpoint_labels(config, labels)
        return {"labels": names}, notes

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        """One row per window; the label of each token in it."""
        rows: list[TrainingRow] = []
        task: TokenClassification = self.serving_task(tokenizer, task_options)
        numbers = {label: number for number, label in enumerate(task.labels)}
        scheme = scheme_of(Counter(task.labels), len(task.labels))
        encoded = encode_all(task, self.serving_options(), [example.item for example in examples])
        for example, coded in zip(examples, encoded, strict=True):
            reading: TextReading = coded.state
            of_text = _labels_of(task, reading, example.target, scheme, numbers)
            for row, window in zip(coded.rows, reading.windows, strict=True):
                labels = [NO_LABEL] * row.num_tokens
                labels[reading.first : reading.first + len(window)] = of_text[window.start : window.stop]
                rows.append(TrainingRow(row, labels))
        return rows

    def labels(self, rows: Sequence[TrainingRow], width: int) -> np.ndarray:
        """(rows, width): the number of each word's label at its first token."""
        padded = np.full((len(rows), width), NO_LABEL, np.int64)
        for line, row in enumerate(rows):
            padded[line, : row.row.num_tokens] = row.label
        return padded

    def crop(self, row: TrainingRow, limit: int, generator: random.Random) -> TrainingRow:
        """The row's beginning, with its last token, which is a special one."""
        if row.row.num_tokens <= limit:
            return row
        ids, types = list(row.row.input_ids), list(row.row.token_type_ids)
        cut = Row(ids[: limit - 1] + ids[-1:], types[: limit - 1] + types[-1:])
        return TrainingRow(cut, row.label[: limit - 1] + row.label[-1:])

    def num_correct(self, logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
        """Words whose label is the likeliest."""
        inside = labels != NO_LABEL
        return int((logits.argmax(-1) == labels)[inside].sum()), int(inside.sum())

    fitted_options = SCORE_OPTIONS

    def calibrate(
        self, predictions: Predictions, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> Calibration:
        """What makes an entity's score the probability that its label and both its ends are right."""
        return scale_scores(decisions_of(predictions.answers, examples))

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Precision, recall and F1 of whole entities, over all, per label and per source.

        As seqeval counts them by default (lenient: an entity may begin with any of its tags), and in its strict mode, which
        counts no predicted entity whose tags are not those of one in the model's scheme."""
        pairs = [(keys_of(answer), _gold(example)) for answer, example in zip(answers, examples, strict=True)]
        strict = [(_well_formed(answer), gold) for answer, (_, gold) in zip(answers, pairs, strict=True)]
        types = list(dict.fromkeys(part.type for part in label_parts(task_options["labels"]) if part.type != OUTSIDE))
        per_class = {}
        for label in types:
            of_label, strict_of_label = (
                [({key for key in found if key[0] == label}, {key for key in gold if key[0] == label}) for found, gold in kind]
                for kind in (pairs, strict)
            )
            per_class[label] = {**_figures(of_label, strict_of_label), "rows": sum(len(gold) for _, gold in of_label)}
        return {
            "headline": {**_figures(pairs, strict), "rows": len(examples)},
            "by_source": by_source(
                examples, lambda rows: {**_figures([pairs[n] for n in rows], [strict[n] for n in rows]), "rows": len(rows)}
            ),
            "per_class": per_class,
        }

    def metric_names(self, task_options: Mapping[str, Any]) -> Mapping[str, str]:
        return {"strict_precision": "strict precision", "strict_recall": "strict recall", "strict_f1": "strict F1"}

    def hub_metrics(self) -> list[str]:
        return ["precision", "recall", "f1"]

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        """F1 by length, and the texts with most that is wrong, the true and the predicted entities of each."""
        scores = self.row_scores(evaluated.predictions.answers, evaluated.examples)
        return {
            "by_length": by_length(evaluated.lengths, list(map(float, scores)), False),
            "worst": self.worst_errors(evaluated, MAX_ERRORS),
        }

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        answers = evaluated.predictions.answers
        wrong = [len(keys_of(answer) ^ _gold(example)) for answer, example in zip(answers, evaluated.examples, strict=True)]
        return [
            evaluated.error(
                index,
                right=self.label_texts(example) or ["(no entity)"],
                guessed=self.answer_texts(answers[index], {}) or ["(no entity)"],
                score=round(float(max((entity.score for entity in answers[index].entities), default=0.0)), 4),
                entities={
                    "true": pieces(example.item.text, example.target),
                    "predicted": pieces(example.item.text, answers[index].entities),
                },
            )
            for index in np.argsort([-count for count in wrong], kind="stable")[:limit]
            if wrong[index]
            for example in [evaluated.examples[index]]
        ]

    def is_correct(self, answer: Any, example: Example) -> bool:
        """Whether all entities of the text are right, and no others were found."""
        return keys_of(answer) == _gold(example)

    def row_scores(self, answers: Sequence[Any], examples: Sequence[Example]) -> np.ndarray:
        """F1 of each text's entities; 1 where it has none and none was found."""
        pairs = zip(map(keys_of, answers), map(_gold, examples), strict=True)
        return np.array([prf([pair])["f1"] if any(pair) else 1.0 for pair in pairs])

    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        return [f"{entity.label}: {entity.text}" for entity in answer.entities]

    def label_texts(self, example: Example) -> list[str]:
        return [f"{span.label}: {example.item.text[span.start : span.end]}" for span in example.target]


SPEC: HeadTask = TokenClassificationTraining()


def decisions_of(answers: Sequence[Any], examples: Sequence[Example]) -> Decisions:
    """Every entity that was found, and whether it is there."""
    golds = [_gold(example) for example in examples]
    found = [(number, entity) for number, answer in enumerate(answers) for entity in answer.entities]
    right = [(entity.label, entity.start, entity.end) in golds[number] for number, entity in found]
    return Decisions(
        np.array([entity.score for _, entity in found]),
        np.array(right, np.float64),
        np.array([number for number, _ in found], np.int64),
        [example.source for example in examples],
    )


def prf(pairs: Iterable[Sequence[set[Key]]]) -> dict[str, float]:
    """Precision, recall and F1 of predicted entities, over all texts together: an entity counts where label and both ends are
    right."""
    num_right = num_predicted = num_true = 0
    for predicted, true in pairs:
        num_right += len(predicted & true)
        num_predicted, num_true = num_predicted + len(predicted), num_true + len(true)
    precision = num_right / num_predicted if num_predicted else 0.0
    recall = num_right / num_true if num_true else 0.0
    f1 = 2 * precision * recall / (precision + recall) if num_right else 0.0
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def pieces(text: str, spans: Sequence[Span | Entity]) -> list[tuple[str, str]]:
    """The text in pieces, each with its label: empty between entities."""
    parts, place = [], 0
    for span in spans:
        parts += [(text[place : span.start], ""), (text[span.start : span.end], span.label)]
        place = span.end
    return [(part, label) for part, label in [*parts, (text[place:], "")] if part]


def _figures(pairs: Iterable[Sequence[set[Key]]], strict: Iterable[Sequence[set[Key]]]) -> dict[str, float]:
    return {**prf(pairs), **{f"strict_{name}": value for name, value in prf(strict).items()}}


def _well_formed(answer: Any) -> set[Key]:
    return {(entity.label, entity.start, entity.end) for entity in answer.entities if entity.is_well_formed}


def _labels_of(
    task: TokenClassification, reading: TextReading, spans: Sequence[Span], scheme: Scheme, numbers: Mapping[str, int]
) -> list[int]:
    """The label of each of a text's tokens: the word's at its first one."""
    tokens = reading.tokens
    words = task.words(tokens, len(tokens))
    offsets = own_spans(tokens)
    places = []
    for word in words:
        inside = [offsets[number] for number in word if offsets[number][0] < offsets[number][1]]
        places.append((inside[0][0], inside[-1][1]) if inside else (offsets[word.start][0],) * 2)
    labels = [NO_LABEL] * len(tokens)
    for word, tag in zip(words, tags_for(places, spans, scheme), strict=True):
        labels[word.start] = numbers.get(tag, NO_LABEL)
    return labels


def _gold(example: Example) -> set[Key]:
    return {(span.label, span.start, span.end) for span in example.target}

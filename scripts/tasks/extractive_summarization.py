"""Extractive summarization offline: how much of each sentence a summary says, ROUGE beside the lead and the oracle."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from app.core.fields import FieldSpec
from app.core.types import Row, RowOutput
from app.data import Record
from app.data.cells import is_missing
from app.tasks.base import Encoded
from app.tasks.extractive_summarization.spec import SPEC as SERVED
from app.tasks.extractive_summarization.task import (
    DocumentReading,
    Sentence,
    Summary,
    SummaryItem,
    select,
    sentence_scores,
)
from app.tasks.fields import SUMMARY_COLUMNS
from app.tasks.sentences import LANGUAGE, sentences
from app.tasks.tokenizer import Tokenizer, encodable
from scripts.report.sections import MAX_ERRORS, by_length
from scripts.tasks.heads import IGNORED, HeadTask
from scripts.tasks.spec import Prepared, ReportInput, TrainingRow
from scripts.training.columns import LABEL, Columns, TableSample, choose_columns, describe, finds
from scripts.training.data import Broken, Dataset, Example, Parse, by_source, load
from scripts.training.data_checks import check_texts
from scripts.training.evaluation import encode_all
from scripts.training.metrics import LEAD, METRICS, oracle, precision, rouge
from scripts.training.recipe import Recipe

if TYPE_CHECKING:  # imported when a loss is computed: judging a published graph needs no torch
    import torch

SUMMARY = FieldSpec(SUMMARY_COLUMNS, description="summary")
LATER_WINDOWS = 0.1
TOLD_RIGHT = 0.1
"""How near to its label a sentence counts as told right."""
SAMPLE_TEXTS = (
    ("The city council voted on Tuesday to close the old market hall. Engineers had warned for years that its roof could"
    " fall. About forty traders will move to a tent on the station square by March. Some of them have sold fish there for"
    " three generations. The council expects the repair to cost four million euros and to take two years."),
    "One sentence stands alone.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """The reference summary, in sentences."""

    sentences: tuple[str, ...]


class SummaryMetrics(NamedTuple):
    """What `Trainer.evaluate` gives; ROUGE is F1 in percent, with stemming."""

    loss: float
    """Mean binary cross entropy in nats, per sentence."""
    rouge1: float
    rouge2: float
    rougeLsum: float  # noqa: N815  # the metric's own name


class SummarizationTraining(HeadTask):
    """Satisfies `TrainingTask`. An example's target is a `Target`."""

    served = SERVED
    api_module = "summarizer"
    is_teachable = True
    metrics_type = SummaryMetrics
    length_metric = "ROUGE-1"
    primary_metric = "rouge1"
    has_language = True
    auto_class = "AutoModelForTokenClassification"
    has_own_loss = True
    heads: tuple[str, ...] = ("ForTokenClassification",)
    golden_texts = SAMPLE_TEXTS
    label_field = SUMMARY

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        """A document, and a shorter text that is called a summary."""
        found = finds(self, recipe, table)
        if not {"text", LABEL} <= found.keys() or not all(column.is_free_text for column in found.values()):
            return 0.0
        return 0.8 if 0 < found[LABEL].mean_length < found["text"].mean_length else 0.0

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        """A document and its summary per record; columns by the names everybody uses."""
        columns = choose_columns(self.fields, SUMMARY, recipe, records, "text")
        parsers = [partial(parser, names=columns, language=recipe.language) for parser in (parse, parse_correction)]
        dataset = load(recipe, records, parsers[0], correction=parsers[1])
        options = _task_options(dataset, recipe)
        names = describe({"document": columns.matches["text"], LABEL: columns.matches[LABEL]}, "summary")
        notes = [f"{names}; summaries of about {options['usual_words']:.0f} words", *columns.notes]
        return Prepared(dataset, options, notes, list(check_texts(dataset)), columns.matches)

    def prepared_again(self, prepared: Prepared, dataset: Dataset, recipe: Recipe) -> Prepared:
        again = super().prepared_again(prepared, dataset, recipe)
        return replace(again, task_options=_task_options(dataset, recipe))

    def head_config(self, task_options: Mapping[str, Any]) -> dict[str, Any]:
        return {"num_labels": 1}

    def loss(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Binary cross entropy of sentences, each scored by the mean logit of its tokens, averaged over the sentences.

        Args:
            outputs: of a token classification model with one label: `logits` (rows, tokens, 1).
            labels: (rows, tokens, 2): the number of the token's sentence in the batch, and what is wanted of the sentence,
                between 0 and 1; `IGNORED` at padding.
        """
        import torch

        (means, wanted) = _by_sentence(labels, outputs["logits"][..., 0], labels[..., 1])
        return torch.nn.functional.binary_cross_entropy_with_logits(means, wanted)

    def teacher_loss(self, outputs: Any, labels: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """Kullback-Leibler divergence of whether a sentence is wanted, averaged over the sentences."""
        import torch

        ours, theirs = (logits / temperature for logits in _by_sentence(labels, outputs["logits"][..., 0], teacher[..., 0]))
        cross, own = (
            torch.nn.functional.binary_cross_entropy_with_logits(logits, theirs.sigmoid()) for logits in (ours, theirs)
        )
        return (cross - own) * temperature**2

    def unlabelled_target(self, task_options: Mapping[str, Any]) -> Target:
        return Target(("-",))

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        """One row per window; a sentence's label is the share of it that a summary of the usual length says. With few documents
        such graded labels tell more than the greedy oracle's yes or no. Of the windows after the first only some are trained
        on: documents are summed up by their beginnings, and later windows are many and alike."""
        rows = []
        generator = random.Random(len(examples))
        coverage = said_by_usual_length(examples, task_options["usual_words"])
        task = self.serving_task(tokenizer, task_options)
        encoded = encode_all(task, self.serving_options(), [example.item for example in examples])
        for example, coded in zip(examples, encoded, strict=True):
            reading: DocumentReading = coded.state
            texts = [reading.text[start:end] for start, end in reading.spans]
            targets = [coverage[example.source] * share for share in precision(example.target.sentences, texts)]
            for number, (row, window) in enumerate(zip(coded.rows, reading.windows, strict=True)):
                if number == 0 or generator.random() < LATER_WINDOWS:
                    rows.append(TrainingRow(row, [targets[index] for index in window]))
        return rows

    def labels(self, rows: Sequence[TrainingRow], width: int) -> np.ndarray:
        """(rows, width, 2): the number of each token's sentence in the batch, and how much of the sentence is wanted."""
        padded = np.full((len(rows), width, 2), IGNORED, np.float32)
        number = 0
        for line, row in enumerate(rows):
            for (start, end), target in zip(pairwise([*row.row.output_positions, row.row.num_tokens]), row.label, strict=True):
                padded[line, start:end] = number, target
                number += 1
        return padded

    def crop(self, item: TrainingRow, limit: int, generator: random.Random) -> TrainingRow:
        """The first sentences that fit, at least one."""
        ends = [*item.row.output_positions[1:], item.row.num_tokens]
        num_sentences = max(1, sum(end <= limit for end in ends))
        row = Row(
            item.row.input_ids[: ends[num_sentences - 1]],
            item.row.token_type_ids[: ends[num_sentences - 1]],
            item.row.output_positions[:num_sentences],
        )
        return TrainingRow(row, item.label[:num_sentences])

    def num_correct(self, logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
        """Sentences told right."""
        inside = labels[..., 0] != IGNORED
        numbers = labels[..., 0][inside].astype(np.int64)
        counts = np.bincount(numbers)
        predicted = 1 / (1 + np.exp(-np.bincount(numbers, logits[..., 0][inside]) / counts))
        targets = np.bincount(numbers, labels[..., 1][inside]) / counts
        return int((np.abs(predicted - targets) < TOLD_RIGHT).sum()), len(counts)

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """ROUGE F1 in percent, with that of the first three sentences and of the greedy oracle's three beside it."""
        language = task_options.get("language", LANGUAGE)
        rows = [_scores(answer, example, language) for answer, example in zip(answers, examples, strict=True)]
        return {
            "headline": _means(rows),
            "by_source": by_source(examples, lambda places: _means([rows[place] for place in places])),
        }

    def is_tie(self, task: Any, item: Any, encoded: Encoded, outputs: Sequence[RowOutput], other: Any, reach: float) -> bool:
        """Whether the other one's sentences would be chosen, had theirs half of the reach more, and the others half less."""
        starts = {sentence.start for sentence in other.sentences}
        reading = encoded.state
        chosen = np.array([start in starts for start, _ in reading.spans])
        scores = np.clip(sentence_scores(encoded, outputs), 1e-6, 1 - 1e-6)
        logits = np.log(scores / (1 - scores)) + np.where(chosen, reach / 2, -reach / 2)
        texts = [reading.text[start:end] for start, end in reading.spans]
        indexes = select(texts, 1 / (1 + np.exp(-logits)), self.serving_options(), task.usual_words)
        return {reading.spans[index][0] for index in indexes} == starts

    def fits_head(self, config: Any) -> bool:
        return bool(config.num_labels == 1)

    def head_refusal(self, config: Any, is_named: bool) -> str:
        if is_named and config.num_labels == 1:
            return ""
        return (
            f"labels tokens ({config.architectures[0]}, {config.num_labels} labels), which is served only where it has one"
            " label and scores sentences: then say --task summarization"
        )

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        columns = choose_columns(self.fields, SUMMARY, recipe, records, "text")
        return partial(parse, names=columns, language=task_options.get("language", LANGUAGE))

    reference_prefixes = ("lead3_", "oracle_")

    def baselines(
        self, train: Sequence[Example], examples: Sequence[Example], task_options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """The first three sentences."""
        language = task_options.get("language", LANGUAGE)
        yield "lead-3", [_lead(example.item.text, language) for example in examples]

    def hub_metrics(self) -> list[str]:
        return ["rouge"]

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        """ROUGE-1 by length, and the summaries that have least in common with their references."""
        shares = [value / 100 for value in _rouge1(evaluated.predictions.answers, evaluated.examples)]
        return {"by_length": by_length(evaluated.lengths, shares, False), "worst": self.worst_errors(evaluated, MAX_ERRORS)}

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        scores = _rouge1(evaluated.predictions.answers, evaluated.examples)
        order = np.argsort(scores, kind="stable")[:limit]
        return [evaluated.error(index, rouge1=round(float(scores[index]), 2)) for index in order]

    def row_scores(self, answers: Sequence[Any], examples: Sequence[Example]) -> np.ndarray:
        return np.array(_rouge1(answers, examples))

    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        return [" ".join(sentence.text for sentence in answer.sentences)]

    def label_texts(self, example: Example) -> list[str]:
        return [" ".join(example.target.sentences)]


SPEC: HeadTask = SummarizationTraining()


def _rouge1(answers: Sequence[Summary], examples: Sequence[Example]) -> list[float]:
    return [
        rouge(example.target.sentences, [sentence.text for sentence in answer.sentences])["rouge1"]
        for answer, example in zip(answers, examples, strict=True)
    ]


def _by_sentence(labels: torch.Tensor, *of_tokens: torch.Tensor) -> list[torch.Tensor]:
    """What tokens have, as the mean over each sentence of a batch; padding is left out.

    Args:
        labels: (rows, tokens, 2), as `labels` gives them, of some rows of a batch or all.
        of_tokens: (rows, tokens) each.
    """
    import torch

    inside = labels[..., 0] != IGNORED
    _, numbers, counts = torch.unique(labels[..., 0][inside], return_inverse=True, return_counts=True)
    values = [tensor.float()[inside] for tensor in of_tokens]
    return [torch.zeros(len(counts)).to(tensor).index_add(0, numbers, tensor) / counts for tensor in values]


def _lead(text: str, language: str) -> Summary:
    spans = sentences(text, language)[:LEAD]
    return Summary(text[: spans[-1][1]] if spans else "", [Sentence(text[start:end], start, end, 1.0) for start, end in spans])


def _task_options(dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    return {"usual_words": recipe.summary_words or usual_words(dataset.train), "language": recipe.language}


def usual_words(examples: Sequence[Example]) -> float:
    """Words of a reference summary, on average."""
    return round(float(np.mean([len(" ".join(example.target.sentences).split()) for example in examples])), 1)


def said_by_usual_length(examples: Sequence[Example], words: float) -> dict[str, float]:
    """By source, how much of what its summaries say one of so many words would say: a source with longer summaries says more
    of every sentence, and would teach that all sentences matter."""
    return by_source(examples, lambda places: min(1.0, words / usual_words([examples[place] for place in places])))


def parse(record: Record, source: str, names: Columns, language: str) -> Example | Broken:
    if record.broken:
        return Broken(record.where, record.broken)
    columns = names.of(source)
    text, summary = columns["text"], columns[LABEL]
    for column in (text, summary):
        value = record.columns.get(column)
        if not isinstance(value, str) or is_missing(value):
            return Broken(record.where, f"no text in column {column!r}")
        if not encodable(value):
            return Broken(record.where, "not valid Unicode")
    target = Target(_sentences(record.columns[summary], language))
    return Example(SummaryItem(record.columns[text]), target, source, record.where)


def parse_correction(record: Record, source: str, names: Columns, language: str) -> Example | Broken:
    """As `parse`, but the sentences may be of another language than the model's; the document is read as the model reads it."""
    return parse(record, source, names, record.columns.get("language") or language)


def _sentences(text: str, language: str) -> tuple[str, ...]:
    return tuple(text[start:end] for start, end in sentences(text, language))


def _scores(answer: Summary, example: Example, language: str) -> dict[str, float]:
    own = rouge(example.target.sentences, [sentence.text for sentence in answer.sentences])
    return {**own, **_bounds(example.item.text, example.target.sentences, language)}


@cache  # the torch model and the published graph are judged on the same documents
def _bounds(text: str, reference: tuple[str, ...], language: str) -> dict[str, float]:
    """Figures of the first sentences and of the oracle."""
    document = _sentences(text, language)
    summaries = {"lead3_": document[:LEAD], "oracle_": [document[index] for index in oracle(reference, document, LEAD)]}
    return {
        f"{whose}{metric}": value for whose, summary in summaries.items() for metric, value in rouge(reference, summary).items()
    }


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    names = [f"{whose}{metric}" for whose in ("", "lead3_", "oracle_") for metric in METRICS]
    return {**{name: round(float(np.mean([row[name] for row in rows])), 2) for name in names}, "rows": len(rows)}

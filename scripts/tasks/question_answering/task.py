"""Extractive question answering offline: SQuAD's forms, hard negatives, EM and F1, a fitted temperature."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from app.core.errors import InvalidInput, InvalidSettings
from app.core.types import Row, RowOutput
from app.data import Record
from app.tasks.base import Encoded
from app.tasks.question_answering.spec import SPEC as SERVED
from app.tasks.question_answering.task import Answers, QuestionItem, QuestionReading
from app.tasks.tokenizer import Tokenizer
from scripts.report.sections import MAX_ERRORS, by_length
from scripts.tasks.heads import IGNORED, HeadTask
from scripts.tasks.question_answering import no_answer
from scripts.tasks.question_answering.answers import ANSWERS, Gold, Repair, check_offsets, parse, unanswered
from scripts.tasks.spec import Calibration, Prepared, ReportInput, TrainingRow
from scripts.training.calibration import SCORE_OPTIONS, Decisions, scale_scores
from scripts.training.columns import LABEL, TableSample, choose_columns, finds
from scripts.training.data import Dataset, Example, Parse, by_source, load, normalized
from scripts.training.data_checks import check_texts
from scripts.training.evaluation import Predictions, encode_all
from scripts.training.metrics import exact_match, f1
from scripts.training.recipe import Recipe

if TYPE_CHECKING:  # imported when a loss is computed: judging a published graph needs no torch
    import torch

SAMPLE_ITEMS = (
    {
        "question": "When did the library open?",
        "context": "The old library burned down in 1897. A new library opened in 1903, and a museum was added in 1911.",
    },
    {
        "question": "Who repaired the bridge?",
        "context": "The bridge over the Elbe was repaired by Anna Schmidt and her brothers. It had been closed for two years.",
    },
)
SAMPLE_QUESTIONS = (
    "When did the library open?",
    "Who repaired the bridge?",
    "How much will it cost?",
    "What was moved to Thursday?",
)
NO_ANSWER = "(no answer)"
MAX_UNANSWERED = 600
"""Questions without an answer that are made for calibration."""


@dataclass(frozen=True, slots=True)
class SpanLabel:
    """What the annotators chose in one window: token spans with the share of them who chose it; (0, 0) is "not here"."""

    first_context: int
    """The context's first token."""
    spans: Sequence[tuple[int, int, float]]


class AnswerMetrics(NamedTuple):
    """What `Trainer.evaluate` gives; exact match and F1 as SQuAD v1.1, NaN where no question has an answer."""

    loss: float
    """Mean cross entropy of start and end in nats, per window of a context."""
    exact_match: float
    """Percent of questions answered word for word."""
    f1: float
    """Percent of overlap in words, averaged over the questions."""


class QuestionAnsweringTraining(HeadTask):
    """Satisfies `TrainingTask`. An example's target is a tuple of `Gold`, empty where the context has no answer."""

    served = SERVED
    api_module = "question_answering"
    is_teachable = True
    metrics_type = AnswerMetrics
    auto_class = "AutoModelForQuestionAnswering"
    has_own_loss = True
    heads: tuple[str, ...] = ("ForQuestionAnswering",)
    label_field = ANSWERS
    long_field = "context"
    length_metric = "F1"
    primary_metric = "f1"

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        """A question, a context and answers to it."""
        found = finds(self, recipe, table)
        return 0.9 if {"question", "context", LABEL} <= found.keys() and found["context"].mean_length > 0 else 0.0

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        """Read SQuAD's forms; questions about one context stay on one side of the split."""
        columns = choose_columns(self.fields, ANSWERS, recipe, records, "any")
        repair = Repair() if recipe.repair_offsets else None
        parser = partial(parse, repair=repair, names=columns)
        dataset = load(recipe, records, parser, group=lambda entry: entry.item.context)
        notes = [*columns.notes, *(repair.notes if repair else [])]
        checks = [*check_offsets(dataset), *check_texts(dataset)]
        own = sum(not entry.target for entry in dataset.train)
        if own:
            notes.append(f"{own:,} questions without an answer in their context")
        prepared = self.prepared_again(Prepared(dataset, {}, notes, checks, columns.matches), dataset, recipe)
        if prepared.num_added:
            rows = "row" if prepared.num_added == 1 else "rows"
            notes.append(f"{prepared.num_added:,} {rows} added in which a similar context does not answer the question")
        return prepared

    def prepared_again(self, prepared: Prepared, dataset: Dataset, recipe: Recipe) -> Prepared:
        """With questions added that their context does not answer, where the data has none."""
        if not all(entry.target for entry in dataset.train):
            return super().prepared_again(prepared, dataset, recipe)
        negatives = unanswered(dataset.train, recipe.no_answer_share, recipe.seed)
        dataset = replace(dataset, train=[*dataset.train, *negatives])
        return replace(super().prepared_again(prepared, dataset, recipe), num_added=len(negatives))

    def group(self, example: Example) -> str:
        return normalized(example.item.context)

    def head_config(self, task_options: Mapping[str, Any]) -> dict[str, Any]:
        return {"num_labels": 2}

    def loss(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Cross entropy of start and end against what the annotators chose, by the share of them who chose it.

        Args:
            outputs: of a question answering model: `start_logits` and `end_logits` (rows, tokens), padding included.
            labels: (rows, tokens, 2) shares that sum to 1 over the tokens; `IGNORED` at padding.
        """
        import torch

        logits = torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1).float()  # (rows, tokens, 2)
        padding = labels == IGNORED
        log_probabilities = logits.masked_fill(padding, -1e4).log_softmax(dim=1)
        return -(labels.masked_fill(padding, 0.0) * log_probabilities).sum(dim=1).mean()

    def teacher_loss(self, outputs: Any, labels: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """Kullback-Leibler divergence of where answers start, and of where they end, over the tokens of a row."""
        import torch

        logits = torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1).float()  # (rows, tokens, 2)
        padding = labels == IGNORED
        ours, theirs = (
            (entry / temperature).masked_fill(padding, -1e4).log_softmax(dim=1) for entry in (logits, teacher.to(logits))
        )
        return (theirs.exp() * (theirs - ours)).sum(dim=1).mean() * temperature**2

    def window_texts(self, examples: Sequence[Example]) -> list[Any]:
        return [(example.item.question, example.item.context) for example in examples]

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        """One row per window; a window that holds no whole answer is labelled "not here"."""
        rows: list[TrainingRow] = []
        task = self.serving_task(tokenizer, task_options)
        for start in range(0, len(examples), 1024):  # the encodings of a whole data set would fill gigabytes
            some = examples[start : start + 1024]
            encoded = encode_all(task, self.serving_options(), [entry.item for entry in some])
            for entry, coded in zip(some, encoded, strict=True):
                rows += map(TrainingRow, coded.rows, labels_of(coded.state, entry.target))
        return rows

    def labels(self, rows: Sequence[TrainingRow], width: int) -> np.ndarray:
        """Shares (rows, width, 2) of annotators per start and end token."""
        padded = np.full((len(rows), width, 2), IGNORED, np.float32)
        for line, row in enumerate(rows):
            padded[line, : row.row.num_tokens] = 0
            for first, last, share in row.label.spans:
                padded[line, first, 0] += share
                padded[line, last, 1] += share
        return padded

    def crop(self, item: TrainingRow, limit: int, generator: random.Random) -> TrainingRow:
        """The question, and a part of the context drawn at random around one of the answers."""
        first, length = item.label.first_context, item.row.num_tokens
        room = limit - first - 1  # the row ends with a special token
        begin, end, _ = generator.choice(item.label.spans)
        if length <= limit or room < end - begin + 1:
            return item
        if begin < first:  # not here: any part will do
            begin, end = first, first - 1
        offset = generator.randint(max(first, end + 1 - room), max(first, min(begin, length - 1 - room)))
        positions = [*range(first), *range(offset, offset + room), *range(length - 1, length)]
        moved = [
            (s if s < first else s - offset + first, e if e < first else e - offset + first, share)
            for s, e, share in item.label.spans
            if s < first or (offset <= s and e < offset + room)
        ]
        total = sum(share for _, _, share in moved)
        row = Row([item.row.input_ids[i] for i in positions], [item.row.token_type_ids[i] for i in positions])
        return TrainingRow(row, SpanLabel(first, [(s, e, share / total) for s, e, share in moved]))

    def num_correct(self, logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
        """Rows whose likeliest start and end somebody chose."""
        masked = np.where(labels == IGNORED, -np.inf, logits)  # (rows, tokens, 2)
        predicted = np.take_along_axis(labels, masked.argmax(1)[:, None], 1)[:, 0]  # (rows, 2)
        return int((predicted > 0).all(-1).sum()), len(labels)

    fitted_options = ("temperature", *SCORE_OPTIONS, "no_answer_slope", "no_answer_intercept")

    def calibration_examples(self, examples: Sequence[Example]) -> Sequence[Example]:
        """Questions beside a context that does not answer them, where there are none."""
        if not examples or not all(example.target for example in examples):
            return []
        return unanswered(examples, min(1.0, MAX_UNANSWERED / len(examples)), 0)

    def calibrate(
        self, predictions: Predictions, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> Calibration:
        """What makes the best answer's score the probability of an exact match, and `no_answer_score` that of no answer."""
        answered = [number for number, example in enumerate(examples) if example.target]
        if not answered:
            return Calibration()
        scaled = scale_scores(decisions_of(predictions.answers, examples, answered))
        none = no_answer.fit(predictions.answers, examples, scaled.task_options)
        figures = {**scaled.metrics, **({"no_answer": none.metrics} if none.metrics else {})}
        return Calibration({**scaled.task_options, **none.task_options}, figures)

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Exact match and F1 in percent, as SQuAD v1.1 on questions with an answer; v2.0 beside it where there are others."""
        return {
            "headline": _figures(answers, examples),
            "by_source": by_source(examples, lambda rows: _figures([answers[i] for i in rows], [examples[i] for i in rows])),
        }

    def golden_items(self, recipe: Recipe) -> list[dict[str, Any]]:
        """From JSON objects with `question` and `context`."""
        try:
            requests = [json.loads(entry) for entry in recipe.golden]
            for entry in requests:
                QuestionItem(**entry)
        except (ValueError, TypeError) as error:
            raise InvalidSettings('golden must be JSON objects {"question": …, "context": …}, one per request') from error
        return requests or list(SAMPLE_ITEMS)

    def sample_items(self, texts: Sequence[str], sentences: Sequence[str]) -> list[dict[str, Any]]:
        questions = cycle(SAMPLE_QUESTIONS)
        return [{"question": question, "context": text} for question, text in zip(questions, texts, strict=False)]

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        # nothing is learnt from them, and figures compare texts: where an answer stands does not matter
        return partial(parse, repair=Repair(), names=choose_columns(self.fields, ANSWERS, recipe, records, "any"))

    def baselines(
        self, train: Sequence[Example], examples: Sequence[Example], task_options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """That no context answers its question."""
        yield "no answer", [Answers((), 1.0)] * len(examples)

    def hub_metrics(self) -> list[str]:
        return ["exact_match", "f1"]

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        """F1 by length, and the answers furthest from the right one, the surest first."""
        f1s = [f1(_first(answer), _texts(example)) for answer, example in _pairs(evaluated)]
        return {"by_length": by_length(evaluated.lengths, f1s, False), "worst": self.worst_errors(evaluated, MAX_ERRORS)}

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        pairs = list(_pairs(evaluated))
        f1s = np.array([f1(_first(answer), _texts(example)) for answer, example in pairs])
        scores = [answer.answers[0].score if answer.answers else answer.no_answer_score for answer, _ in pairs]
        order = np.lexsort([-np.array(scores), f1s])
        return [
            evaluated.error(
                index,
                right=self.label_texts(example) or [NO_ANSWER],
                guessed=[_first(answer) or NO_ANSWER],
                score=round(float(scores[index]), 4),
                f1=round(float(f1s[index]), 4),
            )
            for index in order[:limit]
            for answer, example in [pairs[index]]
            if f1s[index] < 1
        ]

    def is_tie(self, task: Any, item: Any, encoded: Encoded, outputs: Sequence[RowOutput], other: Any, reach: float) -> bool:
        """Whether the logarithms of both probabilities are so near, in logits: each of them is the sum of two logits."""
        options, logs = self.serving_options(), []
        for answers in (task.decode(encoded, outputs, options), other):
            try:
                passage = task.passage(item, encoded, outputs, _first(answers))
            except InvalidInput:  # it is no span of the reference's, or there is none
                return False
            output = next(each for row, each in zip(encoded.rows, outputs, strict=True) if row is passage.row)
            logs.append(-float(np.logaddexp(0.0, -passage.log_odds(output))))  # of the probability
        return bool((logs[0] - logs[1]) * task.temperature / 2 < reach)

    def is_correct(self, answer: Any, example: Example) -> bool:
        return bool(exact_match(_first(answer), _texts(example)))

    def row_scores(self, answers: Sequence[Any], examples: Sequence[Example]) -> np.ndarray:
        """F1 in percent; where some contexts have no answer, of what is decided: as SQuAD v2.0."""
        decide = not all(example.target for example in examples)
        texts = ["" if decide and _says_none(answer) else _first(answer) for answer in answers]
        return np.array([100 * f1(text, _texts(example)) for text, example in zip(texts, examples, strict=True)])

    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        return [_first(answer)]

    def label_texts(self, example: Example) -> list[str]:
        return list(dict.fromkeys(_texts(example)))


SPEC: HeadTask = QuestionAnsweringTraining()


def decisions_of(answers: Sequence[Answers], examples: Sequence[Example], numbers: Sequence[int]) -> Decisions:
    """The best answer to each of these, and whether it is an exact match."""
    return Decisions(
        np.array([answers[number].answers[0].score if answers[number].answers else 0.0 for number in numbers]),
        np.array([exact_match(_first(answers[number]), _texts(examples[number])) for number in numbers]),
        np.arange(len(numbers)),
        [examples[number].source for number in numbers],
    )


def _pairs(evaluated: ReportInput) -> Iterator[tuple[Answers, Example]]:
    return zip(evaluated.predictions.answers, evaluated.examples, strict=True)


def labels_of(reading: QuestionReading, golds: Sequence[Gold]) -> list[SpanLabel]:
    """Which tokens of each window the annotators chose; of an answer that a window holds only a part of, none."""
    begins, ends = np.array(reading.context.offsets).reshape(-1, 2).T
    span_counts: Counter[tuple[int, int]] = Counter()
    for gold in golds:
        tokens = np.flatnonzero((ends > gold.start) & (begins < gold.end))
        if tokens.size:
            span_counts[int(tokens[0]), int(tokens[-1])] += 1
    return [_label(window, reading.first_context, span_counts) for window in reading.windows]


def _label(window: range, first_context: int, span_counts: Mapping[tuple[int, int], int]) -> SpanLabel:
    whole = {span: count for span, count in span_counts.items() if window.start <= span[0] and span[1] < window.stop}
    total, shift = sum(whole.values()), first_context - window.start
    spans = [(first + shift, last + shift, count / total) for (first, last), count in whole.items()]
    return SpanLabel(first_context, spans or [(0, 0, 1.0)])


def _figures(answers: Sequence[Answers], examples: Sequence[Example]) -> dict[str, Any]:
    pairs = list(zip(answers, examples, strict=True))
    answerable = [(_first(answer), _texts(entry)) for answer, entry in pairs if entry.target]
    figures: dict[str, Any] = {}
    if answerable:
        figures["exact_match"] = round(100 * float(np.mean([exact_match(*entry) for entry in answerable])), 2)
        figures["f1"] = round(100 * float(np.mean([f1(*entry) for entry in answerable])), 2)
    if len(answerable) < len(pairs):
        decided = [("" if _says_none(answer) else _first(answer), _texts(entry)) for answer, entry in pairs]
        figures["v2_exact_match"] = round(100 * float(np.mean([exact_match(*entry) for entry in decided])), 2)
        figures["v2_f1"] = round(100 * float(np.mean([f1(*entry) for entry in decided])), 2)
    return {**figures, "rows": len(pairs)}


def _first(answers: Answers) -> str:
    return answers.answers[0].answer if answers.answers else ""


def _says_none(answers: Answers) -> bool:
    return not answers.answers or answers.no_answer_score > answers.answers[0].score


def _texts(example: Example) -> list[str]:
    return [gold.text for gold in example.target]

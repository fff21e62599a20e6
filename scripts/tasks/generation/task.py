"""The training half that tasks which write share: pairs of texts, the metrics of what is written, sections of the report."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from app.data import Record
from app.tasks.generation import GeneratedText
from app.tasks.sentences import LANGUAGE
from app.tasks.tokenizer import Tokenizer
from app.tasks.translation.languages import base_of
from scripts.report.sections import MAX_ERRORS, by_length
from scripts.tasks.generation.checks import CheckedText, check_written
from scripts.tasks.generation.metrics import Interval
from scripts.tasks.generation.pairs import SourceTargetColumns, choose_pairs
from scripts.tasks.spec import Prepared, ReportInput, TrainingRow, TrainingTask
from scripts.training.columns import LABEL, describe
from scripts.training.data import Dataset, Example, Parse, by_source, load
from scripts.training.data_checks import check_texts
from scripts.training.evaluation import encode_all
from scripts.training.recipe import Recipe
from scripts.training.seq2seq.tokenizer import PairTokenizer

if TYPE_CHECKING:  # they import torch, which judging a published graph does without
    from scripts.training.pretrained import Start

NUM_SAMPLES = 20
"""Rows that a report shows side by side, drawn at random."""
MAX_MEMORY = 20_000
"""Training rows among which a baseline looks for the most similar source."""


@dataclass(frozen=True, slots=True)
class RowMetrics:
    """What was measured of some texts."""

    headline: Mapping[str, float]
    intervals: Mapping[str, Interval]
    """Of the headline's figures, where 95 % of them lie for as many rows drawn anew."""


GOLDEN_TEXTS = (
    "The old library burned down in 1897.",
    "A new library opened in 1903, and a museum was added in 1911.",
    "Where can I find the opening hours?",
    "Please send the invoice to the address below before Friday.",
)


class GenerationTraining(TrainingTask):
    """An example's target is the text to be written."""

    has_decoder = True
    has_encoder = True
    """Whether one reads the text; without, the decoder goes on from it."""
    auto_class = "AutoModelForSeq2SeqLM"
    heads: tuple[str, ...] = ("ForConditionalGeneration", "MTModel", "EncoderDecoderModel")
    optional_weights: tuple[str, ...] = ("final_logits_bias",)
    golden_texts: Sequence[str] = GOLDEN_TEXTS
    is_translation = False
    has_names = True
    """Whether words in capitals are names, so that a text which has others than its source is to be looked at."""

    # data

    @abstractmethod
    def pair_options(self, recipe: Recipe, columns: SourceTargetColumns, dataset: Dataset) -> dict[str, Any]:
        """Task options that follow from the data."""

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        columns = self._columns(recipe, records)
        dataset = load(recipe, records, partial(columns.parse, make_item=self._item))
        options = self.pair_options(recipe, columns, dataset)
        names = describe({"source": columns.names["text"], LABEL: columns.names[LABEL]}, "target")
        notes = [names, *columns.columns.notes]
        return Prepared(dataset, options, notes, list(check_texts(dataset)), columns.names)

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        return partial(self._columns(recipe, records).parse, make_item=self._item)

    def _item(self, text: str) -> Any:
        return self.served.item(text)

    def item_fields(self, item: Any) -> dict[str, Any]:
        return {"text": item.text}  # whatever else an item of training knows is for training alone

    def _columns(self, recipe: Recipe, records: Mapping[str, Sequence[Record]]) -> SourceTargetColumns:
        return choose_pairs(self.fields["text"], self.label_field, recipe, records, self.is_translation)

    # model

    @abstractmethod
    def writer_options(self, config: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
        """Task options of a checkpoint, and notes on them."""

    def head_refusal(self, config: Any, is_named: bool) -> str:
        from scripts.export.seq2seq.families import refusal  # needs torch, which judging a published model does not

        return refusal(config)

    def serving_task(self, tokenizer: Tokenizer, task_options: Mapping[str, Any], *writing: Any) -> Any:
        """As others; a `PairTokenizer` knows decoder and target itself."""
        known = (tokenizer.decoder, tokenizer.target) if isinstance(tokenizer, PairTokenizer) else writing
        return super().serving_task(tokenizer, task_options, *known)

    def base_options(self, start: Start, config: Any, task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Task options with what a base model says of its own: languages, prefixes.

        Raises:
            InvalidSettings: it is for other languages than the data.
        """
        own, _ = self.writer_options(config, start.writer.original) if start.writer else ({}, [])
        return {**own, **task_options}

    def check_for_base(self, prepared: Prepared) -> None:
        """
        Raises:
            InvalidSettings: the base model, of which the task options now tell, cannot read the data.
        """

    def serving_options(self) -> Any:
        return self.served.options(num_beams=1, temperature=0.0)

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        """One row for each pair. A pair whose source is longer than the model, or its training, reads at once is left out where
        the service would read it in pieces, and cut where it would cut it."""
        if not isinstance(tokenizer, PairTokenizer):
            raise TypeError(f"pairs are read by a PairTokenizer, not by a {type(tokenizer).__name__}")
        task = self.serving_task(tokenizer.for_training(), self.training_options(task_options))
        encoded = encode_all(task, self.reading_options(), [example.item for example in examples])
        labels = tokenizer.labels([str(example.target) for example in examples], self.first_labels(task, task_options))
        pairs = zip(encoded, labels, strict=True)
        return [TrainingRow(tokenizer.read_row(source.rows[0]), label) for source, label in pairs if len(source.rows) == 1]

    def training_options(self, task_options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Under which a source is one row, if it can be."""
        return task_options

    def reading_options(self) -> Any:
        """Of a request, in training."""
        return replace(self.serving_options(), truncation="truncate")

    def first_labels(self, task: Any, task_options: Mapping[str, Any]) -> Sequence[int]:
        """Tokens that a target begins with."""
        return ()

    # evaluation, card and report

    @abstractmethod
    def measure(
        self, texts: Sequence[str], references: Sequence[str], task_options: Mapping[str, Any], with_intervals: bool
    ) -> RowMetrics:
        """The headline's figures of written texts."""

    @abstractmethod
    def text_scores(self, texts: Sequence[str], references: Sequence[str], task_options: Mapping[str, Any]) -> np.ndarray:
        """The primary metric of each text. (texts,)"""

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """`headline` and `by_source`, and `intervals` of the headline's figures."""
        measured = self._measured(answers, examples, task_options, with_intervals=True)

        def part(rows: Sequence[int]) -> dict[str, Any]:
            if len(rows) == len(examples):
                return dict(measured.headline)
            own = [answers[row] for row in rows], [examples[row] for row in rows]
            return dict(self._measured(*own, task_options, with_intervals=False).headline)

        return {
            "headline": dict(measured.headline),
            "by_source": by_source(examples, part),
            "intervals": dict(measured.intervals),
        }

    def _measured(
        self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any], with_intervals: bool
    ) -> RowMetrics:
        texts, references = [answer.text for answer in answers], [str(example.target) for example in examples]
        measured = self.measure(texts, references, task_options, with_intervals)
        headline = {name: round(figure, 2) for name, figure in measured.headline.items()}
        return replace(measured, headline={**headline, "rows": len(examples)})

    def row_scores(self, answers: Sequence[Any], examples: Sequence[Example]) -> np.ndarray:
        return self.text_scores([answer.text for answer in answers], [str(example.target) for example in examples], {})

    def baselines(
        self, train: Sequence[Example], examples: Sequence[Example], task_options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """The source itself, and what was written for the most similar source of the training rows."""
        yield "the source", [written(example.item.text) for example in examples]
        if train:
            yield "target of the most similar source", from_memory(train, examples)

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        """The primary metric by length, checks of the texts, some rows side by side, and the worst."""
        answers, examples = evaluated.predictions.answers, evaluated.examples
        scores = self._scores(evaluated)
        rows = [
            CheckedText(example.where, example.item.text, answer.text, str(example.target))
            for answer, example in zip(answers, examples, strict=True)
        ]
        picks = sorted(random.Random(0).sample(range(len(rows)), min(NUM_SAMPLES, len(rows))))
        samples = [
            {
                "where": rows[index].where,
                "source": rows[index].source,
                "reference": rows[index].reference,
                "text": rows[index].text,
                "score": round(float(scores[index]), 1),
            }
            for index in picks
        ]
        return {
            "by_length": by_length(evaluated.lengths, (scores / 100).tolist(), False),
            "written": check_written(rows, self.has_names),
            "samples": samples,
            "worst": self.worst_errors(evaluated, MAX_ERRORS),
        }

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        scores = self._scores(evaluated)
        order = np.argsort(scores, kind="stable")[:limit]
        return [evaluated.error(index, (), **{self.primary_metric: round(float(scores[index]), 2)}) for index in order]

    def _scores(self, evaluated: ReportInput) -> np.ndarray:
        texts = [answer.text for answer in evaluated.predictions.answers]
        return self.text_scores(texts, [str(example.target) for example in evaluated.examples], evaluated.task_options)

    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        return [answer.text]

    def label_texts(self, example: Example) -> list[str]:
        return [str(example.target)]


def written(text: str) -> GeneratedText:
    """A text that no model wrote, as an answer."""
    return GeneratedText(text, "stop", 0)


def from_memory(train: Sequence[Example], examples: Sequence[Example]) -> list[GeneratedText]:
    """The targets of the most similar sources, by the cosine of TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = random.Random(0).sample(list(train), MAX_MEMORY) if len(train) > MAX_MEMORY else list(train)
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    try:
        sources = vectorizer.fit_transform([example.item.text for example in known])
    except ValueError:  # no source has a word
        return [written("") for _ in examples]
    nearest: list[int] = []
    for start in range(0, len(examples), 256):
        cosines = vectorizer.transform([example.item.text for example in examples[start : start + 256]]) @ sources.T
        nearest += np.asarray(cosines.argmax(axis=1)).ravel().tolist()
    return [written(str(known[index].target)) for index in nearest]


def specific_params(config: Any) -> dict[str, dict[str, Any]]:
    """What a checkpoint says of the tasks of transformers' pipelines that it is for."""
    return dict(getattr(config, "task_specific_params", None) or {})


def language_of(task_options: Mapping[str, Any]) -> str:
    """Of what is written, as two letters."""
    named = task_options.get("target") or task_options.get("language") or ""
    return base_of(str(named)) or LANGUAGE

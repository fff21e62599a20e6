"""Text ranking offline: queries with documents, and how well each document answers; judged query by query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec, column_key
from app.data import Record
from app.tasks.text_ranking.spec import SPEC as SERVED
from app.tasks.text_ranking.task import RankingItem, Relevance
from scripts.report.sections import MAX_ERRORS, NUM_EXPLAINED, by_length, words_for
from scripts.tasks.heads import HeadTask, checkpoint_labels
from scripts.tasks.spec import Prepared, ReportInput
from scripts.tasks.text_regression import number, read_number
from scripts.tasks.texts import TextColumns, TextTraining
from scripts.training.baselines import MAX_CHARACTERS
from scripts.training.columns import TableSample, choose_columns
from scripts.training.data import Dataset, Example, Parse, by_source, load
from scripts.training.data_checks import check_texts
from scripts.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

RELEVANCE = "relevance"
"""What the one output is called."""
RELEVANT = 0.5
"""From so much on, of 0 to 1, a document answers its query."""
DEPTH = 10
"""Places of a ranking that count."""
TARGET = FieldSpec((
    "label", "relevance", "relevant", "score", "is_relevant", "is_selected", "relevance_label", "rating", "grade", "target",
    "Relevanz", "relevant?", "pertinence", "relevancia", "rilevanza", "релевантность",
))  # fmt: skip
SAMPLES = (
    ("How long does a parcel take?", "Parcels are delivered within three working days."),
    ("How long does a parcel take?", "Our shop is open from nine to six."),
    ("When did the library open?", "The old library burned down in 1897. A new library opened in 1903."),
    ("Who repaired the bridge?", "The bridge over the Elbe was repaired by Anna Schmidt and her brothers."),
    ("weather", "My card was charged twice and I would like the money back."),
    ("Wie war das Wetter?", "Das Wetter war schön, und wir gingen am See spazieren."),
)


class RankingMetrics(NamedTuple):
    """What `Trainer.evaluate` gives: means over the queries that have better and worse documents, 0 to 1."""

    loss: float
    """Mean binary cross entropy in nats."""
    ndcg_at_10: float
    mrr_at_10: float


class TextRankingTraining(TextTraining):
    """An example's target is its relevance, from 0 to 1. The one logit learns it by binary cross entropy."""

    served = SERVED
    api_module = "text_ranker"
    metrics_type = RankingMetrics
    label_field = TARGET
    long_field = "document"
    has_own_loss = True
    length_metric = "mean absolute error of the score"
    primary_metric = "ndcg_at_10"

    def fits_head(self, config: Any) -> bool:
        return getattr(config, "problem_type", None) != "multi_label_classification"

    def is_unlikely_head(self, config: Any) -> bool:
        return True

    def head_sign(self, config: Any, pipeline_tag: str) -> str:
        if any(str(label).lower().startswith("entail") for label in (config.id2label or {}).values()):
            return ""  # cross-encoders of natural language inference have labels
        if getattr(config, "sentence_transformers", None) is not None:
            return "config.json has sentence_transformers, as its cross-encoders do"
        if _default_activation(config):
            return "config.json has sbert_ce_default_activation_function, as cross-encoders do"
        return "its card says pipeline_tag: text-ranking" if pipeline_tag == self.name else ""

    def checkpoint_options(self, config: Any, labels: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        is_unnamed = config.num_labels == 1 and not labels
        names, notes = checkpoint_labels(config, [RELEVANCE] if is_unnamed else labels)
        if config.num_labels > 1:
            notes.append(f"of its {config.num_labels} outputs the probability of the last, {names[-1]!r}, is the score")
        activation = _default_activation(config)
        if config.num_labels == 1 and activation not in ("", "Sigmoid"):
            notes.append(
                f"its config.json names {activation} for its scores; the service tells the sigmoid of the logit, in the same"
                " order, and the logit itself where raw scores are asked for"
            )
        return {"labels": names}, notes

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        """A query and a document or passage beside a label: names that nothing else has together."""
        names = {column_key(name) for name in table.names}
        return 0.9 if "query" in names and names & {"document", "passage"} and TARGET.find(table.names) else 0.0

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        """Rows of one query stay together: whoever is judged is judged on queries that training never saw."""
        if recipe.label_smoothing:
            raise InvalidSettings(
                f"label_smoothing is {recipe.label_smoothing}, but a relevance cannot be smoothed; leave it out"
            )
        columns = _columns(recipe, records)
        lowest, highest = _range(columns, records)
        dataset = load(recipe, records, _parser(columns, lowest, highest), group=self.group)
        _check_judged(dataset, recipe)
        num_queries = len(queries_of([*dataset.train, *dataset.validation]))
        notes = [f"{columns}; {num_queries:,} queries, relevance from {lowest:g} to {highest:g}"]
        options = {"labels": [RELEVANCE]}
        return Prepared(dataset, options, notes, list(check_texts(dataset)), columns.columns.matches)

    def group(self, example: Example) -> str:
        return _key(example.item.query)

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        columns = _columns(recipe, records)
        return _parser(columns, *_range(columns, records))

    def golden_items(self, recipe: Recipe) -> list[dict[str, Any]]:
        return [{"query": query, "document": document} for query, document in SAMPLES]

    def sample_items(self, texts: Sequence[str], sentences: Sequence[str]) -> list[dict[str, Any]]:
        queries = [query for query, _ in SAMPLES]
        return [{"query": queries[number % len(queries)], "document": text} for number, text in enumerate(texts)]

    def row_labels(self, examples: Sequence[Example], task_options: Mapping[str, Any]) -> list[Any]:
        return [float(example.target) for example in examples]

    def loss(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits  # here: the command line lists tasks without torch

        return binary_cross_entropy_with_logits(outputs.logits[:, 0].float(), labels.float())

    def num_correct(self, logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
        return int(((logits[..., 0] > 0) == (labels >= RELEVANT)).sum()), len(labels)

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Means over the queries that have better and worse documents; the same per source."""
        return {
            "headline": _metrics(answers, examples),
            "by_source": by_source(examples, lambda rows: _metrics([answers[i] for i in rows], [examples[i] for i in rows])),
        }

    def baselines(
        self, train: Sequence[Example], examples: Sequence[Example], task_options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """The cosine of query and document by TF-IDF, which learns from the training rows how frequent words are."""
        if not train:
            return
        vectorizer = TfidfVectorizer(sublinear_tf=True)
        try:
            vectorizer.fit([example.item.document[:MAX_CHARACTERS] for example in train])
        except ValueError:  # no document has a word
            return
        queries = vectorizer.transform([example.item.query[:MAX_CHARACTERS] for example in examples])
        documents = vectorizer.transform([example.item.document[:MAX_CHARACTERS] for example in examples])
        cosines = np.asarray(queries.multiply(documents).sum(axis=1)).ravel()
        yield "TF-IDF cosine", [Relevance(float(cosine), float(cosine)) for cosine in cosines]

    def metric_names(self, task_options: Mapping[str, Any]) -> Mapping[str, str]:
        return {"ndcg_at_10": "nDCG@10", "mrr_at_10": "MRR@10"}

    def hub_metrics(self) -> list[str]:
        return ["ndcg_at_10", "mrr_at_10"]

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        """The error by length, and the documents that were scored worst."""
        errors = _errors(evaluated)
        return {
            "by_length": by_length(evaluated.lengths, errors.tolist(), False),
            "worst": _worst(evaluated, errors, MAX_ERRORS, NUM_EXPLAINED),
        }

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        return _worst(evaluated, _errors(evaluated), limit, num_explained=0)

    def is_correct(self, answer: Any, example: Example) -> bool:
        return bool((answer.score >= RELEVANT) == (example.target >= RELEVANT))

    def row_scores(self, answers: Sequence[Any], examples: Sequence[Example]) -> np.ndarray:
        """nDCG of each row's query, weighed so that the mean over rows is the mean over queries; NaN of rows without one."""
        scores = np.full(len(examples), np.nan)
        judged = [rows for rows in queries_of(examples).values() if _is_judged(rows, examples)]
        num_rows = sum(map(len, judged))
        for rows in judged:
            scores[rows] = ndcg(_in_order(rows, answers, examples)) * num_rows / (len(judged) * len(rows))
        # a row that says nothing of a ranking moves no mean
        return np.where(np.isnan(scores), np.nanmean(scores), scores) if judged else scores

    def distance(self, answer: Any, other: Any) -> float:
        return abs(float(answer.score) - float(other.score))

    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        return [f"{answer.score:.3f}"]

    def label_texts(self, example: Example) -> list[str]:
        return [f"{example.target:g}"]


SPEC: HeadTask = TextRankingTraining()


def read_relevance(cell: Any) -> float:
    """
    Raises:
        ValueError: there is no number and no truth, in words that go before "in column …".
    """
    return float(cell) if isinstance(cell, bool) else read_number(cell)


def _parser(columns: TextColumns, lowest: float, highest: float) -> Parse:
    return partial(columns.parse, read_label=lambda cell: (read_relevance(cell) - lowest) / (highest - lowest))


def _range(columns: TextColumns, records: Mapping[str, Sequence[Record]]) -> tuple[float, float]:
    """What stands for irrelevant and for most relevant.

    Raises:
        InvalidSettings: the numbers do not differ.
    """
    numbers = [value for cell in columns.labels(records) if (value := number(cell, read_relevance)) is not None]
    if not numbers:
        raise InvalidSettings(
            "no row has a relevance that is a number, such as 1 for a document that answers its query, else 0"
        )
    if min(numbers) == max(numbers):
        raise InvalidSettings(
            f"every row has the relevance {numbers[0]:g}; a model needs documents that answer their query and others that do"
            " not"
        )
    return min(0.0, *numbers), max(numbers)


def _columns(recipe: Recipe, records: Mapping[str, Sequence[Record]]) -> TextColumns:
    columns = choose_columns(SERVED.fields, TARGET, recipe, records, "number")
    return TextColumns(columns, SERVED.fields, RankingItem)


def _default_activation(config: Any) -> str:
    """Name of the class that the checkpoint's own scores are made by; empty: it does not say."""
    modern = getattr(config, "sentence_transformers", None)
    path = modern.get("activation_fn") if isinstance(modern, dict) else None
    path = path or getattr(config, "sbert_ce_default_activation_function", None)
    return str(path).rpartition(".")[2] if path else ""


def _check_judged(dataset: Dataset, recipe: Recipe) -> None:
    held_out = dataset.validation
    if held_out and not any(_is_judged(rows, held_out) for rows in queries_of(held_out).values()):
        raise InvalidSettings(
            f"none of the {len(queries_of(held_out)):,} queries that are held out has both better and worse documents, so no"
            " ranking can be judged; bring several documents for each query, or say --validation FILE"
        )


# --- rankings


def _key(query: str) -> str:
    return " ".join(query.casefold().split())


def queries_of(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Numbers of the examples of each query."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        rows[_key(example.item.query)].append(row)
    return rows


def _is_judged(rows: Sequence[int], examples: Sequence[Example]) -> bool:
    """Whether one order of a query's documents is better than another."""
    return len({examples[row].target for row in rows}) > 1


def _in_order(rows: Sequence[int], answers: Sequence[Any], examples: Sequence[Example]) -> list[float]:
    """Relevance of a query's documents, best score first. Of equal scores the worst comes first: a tie is no merit."""
    ranked = sorted(rows, key=lambda row: (-answers[row].logit, examples[row].target))
    return [examples[row].target for row in ranked]


def ndcg(relevance: Sequence[float]) -> float:
    """Normalized discounted cumulative gain of the first ten places, with the relevance itself as gain, as trec_eval has it."""
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))

    def gain(values: Sequence[float]) -> float:
        return float(np.dot(values[:DEPTH], discounts[: len(values[:DEPTH])]))

    return gain(relevance) / gain(sorted(relevance, reverse=True))


def reciprocal_rank(relevance: Sequence[float]) -> float:
    """Of the first relevant document among ten; 0: there is none."""
    return next((1 / place for place, value in enumerate(relevance[:DEPTH], start=1) if value >= RELEVANT), 0.0)


def _metrics(answers: Sequence[Any], examples: Sequence[Example]) -> dict[str, Any]:
    judged = [rows for rows in queries_of(examples).values() if _is_judged(rows, examples)]
    orders = [_in_order(rows, answers, examples) for rows in judged]
    return {
        "ndcg_at_10": round(float(np.mean([ndcg(order) for order in orders])), 4) if orders else 0.0,
        "mrr_at_10": round(float(np.mean([reciprocal_rank(order) for order in orders])), 4) if orders else 0.0,
        "queries": len(judged),
        "rows": len(examples),
    }


def _errors(evaluated: ReportInput) -> np.ndarray:
    scores = np.array([answer.score for answer in evaluated.predictions.answers])
    errors: np.ndarray = np.abs(scores - np.array([example.target for example in evaluated.examples]))
    return errors


def _worst(evaluated: ReportInput, errors: np.ndarray, limit: int, num_explained: int) -> list[dict[str, Any]]:
    """The largest errors first; of the first ones with what each word did to the score."""
    return [
        evaluated.error(
            index,
            words_for(evaluated, int(index), None) if number < num_explained else (),
            loss=round(float(errors[index]), 4),
        )
        for number, index in enumerate(np.argsort(-errors, kind="stable")[:limit])
    ]

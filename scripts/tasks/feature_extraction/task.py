"""Feature extraction offline: checkpoints of sentence-transformers, and how near a graph's vectors are to PyTorch's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from app.core.errors import InvalidSettings
from app.core.fields import FieldSpec
from app.data import Record
from app.tasks.feature_extraction.task import (
    EmbedItem,
    EmbedOptions,
    FeatureExtraction,
    Similarities,
    SimilarityItem,
    cosine,
    unit,
)
from app.tasks.manifest_options import checked_options
from app.tasks.text_classification.spec import FIELDS
from app.tasks.text_classification.task import ClassificationItem
from app.tasks.tokenizer import Tokenizer
from scripts.report.sections import MAX_ERRORS, by_length
from scripts.tasks.feature_extraction.modules import SentenceModules, find_modules, plain_modules
from scripts.tasks.spec import Axis, CheckpointParts, PublishedTask, ReportInput
from scripts.tasks.text_regression import NUMBER, correlation, ranks, read_number
from scripts.tasks.texts import TextColumns
from scripts.training.columns import choose_columns
from scripts.training.data import Broken, Example, Parse
from scripts.training.recipe import Recipe

SAMPLE_TEXTS = (
    "The parcel never arrived, and nobody answers my letters.",
    "My order has not been delivered yet.",
    "How do I change my password?",
    "A recipe for apple pie with cinnamon.",
    "Zoë Müller moved from 東京 to São Paulo.",
)
MIN_COSINE = 0.999
"""Of a text's vector with PyTorch's, for 99 of 100 texts."""
MAX_PROBED = 1_000
"""Texts that are each looked for among the others."""
CLEAR = 0.01
"""By so much a text's nearest neighbour must be nearer than another one, for the other to be a wrong one."""
MAX_WRONG = 0.005
"""Of the texts whose nearest neighbour is another one in a graph's vectors, and a wrong one."""


class FeatureExtractionTask(PublishedTask):
    """Satisfies `TrainingTask`. A labelled example is two texts and how alike they are, as a number."""

    name = "feature-extraction"
    output_axis: Axis = "row"
    auto_class = "AutoModel"
    heads: tuple[str, ...] = ()
    optional_weights = ("pooler.",)
    headless = "to publish the mean of its tokens' vectors"
    fields: Mapping[str, FieldSpec] = FIELDS
    label_field = replace(NUMBER, possible=())
    length_metric = "difference of rank"
    primary_metric = "spearman"

    # checkpoints

    def checkpoint_parts(self, location: str, is_named: bool) -> CheckpointParts | None:
        modules = find_modules(location) or (plain_modules(location) if is_named else None)
        if modules is None:
            return None
        return CheckpointParts(modules.transformer, modules.max_tokens, modules.notes, modules)

    def assemble(self, body: Any, parts: CheckpointParts) -> Any:
        from scripts.tasks.feature_extraction.encoder import assemble  # needs torch, which judging a version does not

        model = assemble(body, parts.layout)
        model.config.hooper_task_options = _task_options(parts.layout, model.dimensions)
        return model

    def checkpoint_options(self, config: Any, labels: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        _, notes = super().checkpoint_options(config, labels)
        return dict(config.hooper_task_options), notes

    def serving_task(self, tokenizer: Tokenizer, task_options: Mapping[str, Any]) -> FeatureExtraction:
        return FeatureExtraction(tokenizer, **checked_options(FeatureExtraction, task_options))

    def serving_options(self) -> EmbedOptions:
        return EmbedOptions()

    # items

    def item(self, fields: Mapping[str, Any]) -> EmbedItem | SimilarityItem:
        """A text; of two how alike they are."""
        pair = fields.get("text_pair")
        return EmbedItem(fields["text"]) if pair is None else SimilarityItem(fields["text"], (pair,))

    def sample_items(self, texts: Sequence[str], sentences: Sequence[str]) -> list[dict[str, Any]]:
        return [{"text": text} for text in texts]

    def golden_items(self, recipe: Recipe) -> list[dict[str, Any]]:
        return [{"text": text} for text in recipe.golden or SAMPLE_TEXTS]

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        columns = TextColumns(choose_columns(FIELDS, self.label_field, recipe, records, "number"))
        if "text_pair" not in columns.columns.matches:
            raise InvalidSettings("a number says how alike two texts are, but there is one; say --text-pair-column NAME")
        return partial(_pair, columns)

    # evaluation

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Correlations of the cosines with the numbers, over all and per source."""
        predicted, true = np.array([answer.scores[0] for answer in answers]), np.array([example.target for example in examples])
        sources: dict[str, list[int]] = defaultdict(list)
        for index, example in enumerate(examples):
            sources[example.source].append(index)
        return {
            "headline": _correlations(predicted, true),
            "by_source": {source: _correlations(predicted[rows], true[rows]) for source, rows in sources.items()},
        }

    def hub_metrics(self) -> list[str]:
        return ["spearmanr", "pearsonr"]

    def row_scores(self, answers: Sequence[Any], examples: Sequence[Example]) -> np.ndarray:
        """How far a pair's rank by its cosine lies from that by its number, as a part of all ranks; negative."""
        predicted, true = (ranks(np.array(values)) for values in zip(*_values(answers, examples), strict=True))
        scores: np.ndarray = -np.abs(predicted - true) / max(1, len(true) - 1)
        return scores

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        """Every pair's cosine with its number, and the pairs whose ranks differ most."""
        errors = -self.row_scores(evaluated.predictions.answers, evaluated.examples)
        points = _values(evaluated.predictions.answers, evaluated.examples)
        return {
            "points": [[round(true, 4), round(predicted, 4)] for predicted, true in points][:MAX_PROBED],
            "by_length": by_length(evaluated.lengths, errors.tolist(), False),
            "worst": self.worst_errors(evaluated, MAX_ERRORS),
        }

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        errors = -self.row_scores(evaluated.predictions.answers, evaluated.examples)
        return [
            {
                "where": example.where,
                "fields": {"text": example.item.source_sentence, "text_pair": example.item.sentences[0]},
                "right": self.label_texts(example),
                "guessed": self.answer_texts(evaluated.predictions.answers[index], {}),
                "loss": round(float(errors[index]), 4),
                "words": [],
            }
            for index in np.argsort(-errors, kind="stable")[:limit]
            for example in [evaluated.examples[index]]
        ]

    def distance(self, answer: Any, other: Any) -> float:
        """Of vectors, how far their cosine lies from 1."""
        if isinstance(answer, Similarities):
            return float(abs(answer.scores[0] - other.scores[0]))
        return 1 - cosine(answer.vector, other.vector)

    def set_difference(self, answers: Sequence[Any], others: Sequence[Any]) -> str:
        """The vectors must be as near at the 1st percentile as `MIN_COSINE` says. And each text looks for its nearest among the
        others: where that is another one, and clearly a wrong one, it counts."""
        columns = (answers, others)
        vectors, of_others = (np.concatenate([_vectors(answer) for answer in column]) for column in columns)
        nearest = percentile_of_cosines(vectors, of_others)
        if not nearest >= MIN_COSINE:  # "not": NaN is no cosine
            return f"the cosine of the vectors is {nearest:.4f} at its 1st percentile, wanted is {MIN_COSINE}"
        wrong = num_wrong_neighbours(vectors[:MAX_PROBED], of_others[:MAX_PROBED])
        num_probed = min(len(vectors), MAX_PROBED)
        allowed = max(1, int(MAX_WRONG * num_probed))
        if wrong <= allowed:
            return ""
        return f"{wrong} of {num_probed} texts have another nearest neighbour, allowed are {allowed}"

    def answer_texts(self, answer: Any, task_options: Mapping[str, Any]) -> list[str]:
        if isinstance(answer, Similarities):
            return [f"{score:.4f}" for score in answer.scores]
        return [f"{len(answer.vector)} numbers"]

    def label_texts(self, example: Example) -> list[str]:
        return [f"{example.target:g}"]


SPEC = FeatureExtractionTask()


def percentile_of_cosines(vectors: np.ndarray, others: np.ndarray) -> float:
    """The cosine of two models' vectors of a text that 99 of 100 texts reach; (texts, dimensions) each."""
    return float(np.percentile([cosine(*pair) for pair in zip(vectors, others, strict=True)], 1))


def num_wrong_neighbours(vectors: np.ndarray, others: np.ndarray) -> int:
    """Texts whose nearest one by `others` is clearly not so by `vectors`: retrieval by the one would miss what the other finds.

    Args:
        vectors, others: of the same texts, (texts, dimensions).
    """
    if len(vectors) < 2:
        return 0
    true, nearest = _similarities(vectors), _similarities(others).argmax(axis=1)
    found = true[np.arange(len(true)), nearest]
    return int((true.max(axis=1) - found > CLEAR).sum())


def _similarities(vectors: np.ndarray) -> np.ndarray:
    """Cosines, and on the diagonal less than any: (texts, texts)."""
    scaled = np.array([unit(vector) for vector in vectors.astype(np.float64)])
    cosines: np.ndarray = scaled @ scaled.T
    np.fill_diagonal(cosines, -2.0)
    return cosines


def _vectors(answer: Any) -> np.ndarray:
    """Of an answer's texts: (texts, dimensions)."""
    return answer.vectors if isinstance(answer, Similarities) else np.array([answer.vector])


def _task_options(modules: SentenceModules, dimensions: int) -> dict[str, Any]:
    """What the manifest says; what is as usual is left out."""
    options: dict[str, Any] = {
        "prompts": dict(modules.prompts),
        "default_prompt": modules.default_prompt,
        "lower_case": modules.lower_case,
        "is_normalized": modules.is_normalized,
        "is_matryoshka": modules.is_matryoshka,
        "matryoshka_dimensions": list(modules.matryoshka_dimensions),
    }
    told = {name: value for name, value in options.items() if value}
    without = {} if modules.include_prompt else {"include_prompt": False}
    return {"dimensions": dimensions, "pooling": "+".join(modules.pooling), **told, **without}


def _pair(columns: TextColumns, record: Record, source: str) -> Example | Broken:
    example = columns.parse(record, source, read_number)
    if isinstance(example, Broken):
        return example
    item: ClassificationItem = example.item
    return replace(example, item=SimilarityItem(item.text, (item.text_pair or "",)))


def _values(answers: Sequence[Any], examples: Sequence[Example]) -> list[tuple[float, float]]:
    """The cosine and the number of each pair."""
    return [(answer.scores[0], example.target) for answer, example in zip(answers, examples, strict=True)]


def _correlations(predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    return {
        "spearman": round(correlation(ranks(predicted), ranks(true)), 4),
        "pearson": round(correlation(predicted, true), 4),
        "rows": len(true),
    }

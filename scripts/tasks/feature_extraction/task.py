"""Feature extraction offline: checkpoints of sentence-transformers, training, and how near vectors are to PyTorch's."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from app.core.errors import InvalidSettings
from app.core.manifest import Manifest
from app.core.types import Row
from app.data import Record
from app.tasks.feature_extraction.spec import SPEC as SERVED
from app.tasks.feature_extraction.task import (
    EmbedItem,
    EmbedOptions,
    Similarities,
    SimilarityItem,
    cosine,
    unit,
)
from app.tasks.tokenizer import Tokenizer
from scripts.report.sections import MAX_ERRORS, by_length
from scripts.tasks.feature_extraction.modules import LayerSpec, SentenceModules, find_modules, plain_modules
from scripts.tasks.feature_extraction.pairs import FIELDS, SCORE, PairColumns, group_of, looks_like_pairs, text_numbers
from scripts.tasks.feature_extraction.retrieval import DEPTHS, Search, retrieval_metrics, search
from scripts.tasks.heads import HeadTask
from scripts.tasks.spec import CheckpointParts, Prepared, ReportInput, TrainingRow
from scripts.tasks.text_regression import correlation
from scripts.tasks.texts import head_and_tail
from scripts.training.columns import TableSample
from scripts.training.data import Example, Parse, by_source, load
from scripts.training.data_checks import check_texts
from scripts.training.evaluation import encode_all
from scripts.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

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


class EmbeddingMetrics(NamedTuple):
    """What `Trainer.evaluate` gives; of held-out rows with a number the first two, of texts that belong together the others."""

    loss: float
    """As in training: CoSENT, or multiple negatives ranking in nats."""
    spearman: float = nan
    pearson: float = nan
    recall_at_1: float = nan
    recall_at_5: float = nan
    recall_at_10: float = nan
    mrr: float = nan
    """Mean reciprocal rank of the partner, over all places."""


class FeatureExtractionTask(HeadTask):
    """Satisfies `TrainingTask`. An example is a text and its partner, perhaps with a negative; its target is how alike the two
    are, from 0 to 1, or None where they belong together."""

    served = SERVED
    api_module = "text_embedder"
    metrics_type = EmbeddingMetrics
    auto_class = "AutoModel"
    heads: tuple[str, ...] = ()
    optional_weights = ("pooler.",)
    headless = "to publish the mean of its tokens' vectors"
    fields = FIELDS
    golden_texts = SAMPLE_TEXTS
    label_field = SCORE
    has_own_loss = True
    compares_examples = True
    is_compared_with_base = True
    length_metric = "difference of rank"
    primary_metric = "spearman"

    # checkpoints

    def checkpoint_parts(self, location: str, is_named: bool) -> CheckpointParts | None:
        modules = find_modules(location) or (plain_modules(location) if is_named else None)
        if modules is None:
            return None
        return CheckpointParts(modules.transformer, modules.max_tokens, modules.notes, modules)

    def model_class(self, config: Any) -> Any:
        from scripts.tasks.feature_extraction.encoder import body_class  # needs torch, which judging a version does not

        return body_class(config)

    def published_layout(self, manifest: Manifest) -> SentenceModules:
        """Dense layers are not told by the options: a version that has some is not read back."""
        task_options = manifest.task_options
        normalize = (LayerSpec("Normalize"),) if task_options.get("is_normalized") else ()
        names = ("prompts", "default_prompt", "lower_case", "include_prompt", "is_matryoshka")
        return SentenceModules(
            transformer="",
            pooling=tuple(task_options["pooling"].split("+")),
            layers=normalize,
            max_tokens=manifest.max_tokens,
            matryoshka_dimensions=tuple(task_options.get("matryoshka_dimensions", ())),
            **{name: task_options[name] for name in names if name in task_options},
        )

    def assemble(self, body: Any, parts: CheckpointParts) -> Any:
        from scripts.tasks.feature_extraction.encoder import assemble  # needs torch, which judging a version does not

        model = assemble(body, parts.layout)
        model.config.hooper_task_options = _task_options(parts.layout, model.dimensions, model.token_dimensions)
        return model

    def checkpoint_options(self, config: Any, labels: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        _, notes = super().checkpoint_options(config, labels)
        return dict(config.hooper_task_options), notes

    # items

    def item(self, fields: Mapping[str, Any]) -> EmbedItem | SimilarityItem:
        """A text; of several how alike the others are to the first."""
        others = tuple(fields[name] for name in FIELDS if name != "text" and fields.get(name) is not None)
        return SimilarityItem(fields["text"], others) if others else EmbedItem(fields["text"])

    def item_fields(self, item: Any) -> dict[str, Any]:
        if not isinstance(item, SimilarityItem):
            return {"text": item.text}
        return dict(zip(FIELDS, [item.source_sentence, *item.sentences], strict=False))

    def labelled_parser(self, recipe: Recipe, records: dict[str, list[Record]], task_options: Mapping[str, Any]) -> Parse:
        return PairColumns.of(recipe, records, is_scaled=False).parse

    # data and training

    def recognizes(self, recipe: Recipe, table: TableSample) -> float:
        return 0.95 if looks_like_pairs(table) else 0.0

    def prepare(self, recipe: Recipe, records: dict[str, list[Record]]) -> Prepared:
        """The options are those of the base model: prompts, pooling, the size of a vector."""
        if recipe.label_smoothing:
            raise InvalidSettings(f"label_smoothing is {recipe.label_smoothing}, but there are no labels here; leave it out")
        columns = PairColumns.of(recipe, records)
        dataset = load(recipe, records, columns.parse, group=group_of)
        matches = columns.texts.columns.matches
        return Prepared(dataset, _base_options(recipe), [str(columns)], list(check_texts(dataset)), matches)

    def group(self, example: Example) -> str:
        return group_of(example)

    def training_rows(
        self, examples: Sequence[Example], tokenizer: Tokenizer, task_options: Mapping[str, Any]
    ) -> list[TrainingRow]:
        """One row for each text of an example, however long; a label is the numbers of its texts and how alike they are."""
        task = self.serving_task(tokenizer, task_options)
        encoded = encode_all(task, EmbedOptions(truncation="truncate"), [example.item for example in examples])
        number = text_numbers()
        rows = []
        for example, entry in zip(examples, encoded, strict=True):
            texts = [number(text) for text in (example.item.source_sentence, *example.item.sentences)]
            label = (texts, nan if example.target is None else float(example.target))
            rows.append(TrainingRow(entry.rows[0], label, others=entry.rows[1:]))
        return rows

    def labels(self, rows: Sequence[TrainingRow], width: int) -> np.ndarray:
        """As `losses.batch_loss` takes them: (rows, 4)."""
        return np.array(
            [
                [number, place, text, score]
                for number, (texts, score) in enumerate(row.label for row in rows)
                for place, text in enumerate(texts)
            ],
            np.float64,
        )

    def crop(self, row: TrainingRow, limit: int, generator: random.Random) -> TrainingRow:
        return replace(row, row=_cropped(row.row, limit), others=[_cropped(other, limit) for other in row.others])

    def loss(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        from scripts.tasks.feature_extraction.losses import batch_loss  # needs torch, which judging a version does not

        return batch_loss(outputs["logits"], labels)

    def num_correct(self, logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
        import torch  # as above

        from scripts.tasks.feature_extraction.losses import num_right

        return num_right(torch.from_numpy(logits), torch.from_numpy(labels))

    # evaluation

    def metric_of(self, examples: Sequence[Example]) -> str:
        return "spearman" if _scored(examples) else "mrr"

    def metric_names(self, task_options: Mapping[str, Any]) -> Mapping[str, str]:
        return {**{f"recall_at_{depth}": f"recall@{depth}" for depth in DEPTHS}, "mrr": "MRR"}

    def evaluate(self, answers: Sequence[Any], examples: Sequence[Example], task_options: Mapping[str, Any]) -> dict[str, Any]:
        """Of pairs with a number the correlations of that with their cosines; of texts that belong together, how often a text
        finds its partner among those of all held-out rows. Both over all and per source."""
        return {
            "headline": _metrics(answers, examples),
            "by_source": by_source(examples, lambda rows: _metrics([answers[i] for i in rows], [examples[i] for i in rows])),
        }

    def hub_metrics(self) -> list[str]:
        return ["spearmanr", "pearsonr", "recall", "mrr"]

    def row_scores(self, answers: Sequence[Any], examples: Sequence[Example]) -> np.ndarray:
        """Where rows have a number, the product of a pair's standardized ranks, by its cosine and by its number: their mean is
        Spearman's correlation; a row without one moves no mean. Else the reciprocal rank of each row's partner."""
        scored = _scored(examples)
        if not scored:
            scores: np.ndarray = 1 / search(answers, examples).ranks
            return scores
        predicted = _standardized(rankdata(np.array([answers[row].scores[0] for row in scored])))
        products = predicted * _standardized(rankdata(np.array([examples[row].target for row in scored])))
        scores = np.full(len(examples), products.mean())
        scores[scored] = products
        return scores

    def report_sections(self, evaluated: ReportInput) -> dict[str, Any]:
        """The pairs whose ranks differ most, and every pair's cosine with its number; or the texts whose partner ranks lowest,
        beside what they find in its place."""
        answers, examples = evaluated.predictions.answers, evaluated.examples
        scored = _scored(examples)
        points = [[round(examples[row].target, 4), round(answers[row].scores[0], 4)] for row in scored][:MAX_PROBED]
        if scored:
            own = _rank_errors([answers[row] for row in scored], [examples[row] for row in scored])
            errors = np.full(len(examples), own.mean())
            errors[scored] = own
        else:
            found = search(answers, examples)
            errors = (found.ranks - 1) / max(1, found.num_texts - 1)
        return {
            **({"points": points} if points else {}),
            "by_length": by_length(evaluated.lengths, errors.tolist(), False),
            "worst": self.worst_errors(evaluated, MAX_ERRORS),
        }

    def worst_errors(self, evaluated: ReportInput, limit: int) -> list[dict[str, Any]]:
        answers, examples = evaluated.predictions.answers, evaluated.examples
        scored = _scored(examples)
        if not scored:
            return _wrong_neighbours(search(answers, examples), examples, limit)
        errors = _rank_errors([answers[row] for row in scored], [examples[row] for row in scored])
        return [
            evaluated.error(scored[index], loss=round(float(errors[index]), 4))
            for index in np.argsort(-errors, kind="stable")[:limit]
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
        return ["belong together" if example.target is None else f"{example.target:g}"]


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


def _task_options(modules: SentenceModules, dimensions: int, token_dimensions: int) -> dict[str, Any]:
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
    sizes = {"dimensions": dimensions, "token_dimensions": token_dimensions}
    return {**sizes, "pooling": "+".join(modules.pooling), **told, **without}


def _base_options(recipe: Recipe) -> dict[str, Any]:
    """What the manifest will say, which is what the base model's own files say."""
    from transformers import AutoConfig  # seconds, which judging a version does not take

    from scripts.tasks.feature_extraction.encoder import hidden_size
    from scripts.training.pretrained import find_start

    location = find_start(recipe.base_model, models=Path(recipe.models)).base.location
    modules = find_modules(location) or plain_modules(location)
    sizes = [layer.num_outputs for layer in modules.layers if layer.kind == "Dense"]
    config = AutoConfig.from_pretrained(modules.transformer, trust_remote_code=False)
    width = hidden_size(config)
    return _task_options(modules, sizes[-1] if sizes else len(modules.pooling) * width, width)


def _cropped(row: Row, limit: int) -> Row:
    """Both ends of it; the vector begins where it did."""
    return replace(head_and_tail(row, limit), output_positions=row.output_positions)


def _scored(examples: Sequence[Example]) -> list[int]:
    """Numbers of the rows that have a number."""
    return [row for row, example in enumerate(examples) if example.target is not None]


def _standardized(values: np.ndarray) -> np.ndarray:
    """With the mean 0 and the deviation 1; all 0 where they do not vary."""
    scaled: np.ndarray = (values - values.mean()) / (values.std() or 1.0)
    return scaled


def _rank_errors(answers: Sequence[Any], examples: Sequence[Example]) -> np.ndarray:
    """How far each pair's rank by its cosine lies from that by its number, as a part of all ranks."""
    predicted = rankdata(np.array([answer.scores[0] for answer in answers]))
    true = rankdata(np.array([example.target for example in examples]))
    errors: np.ndarray = np.abs(predicted - true) / max(1, len(true) - 1)
    return errors


def _metrics(answers: Sequence[Any], examples: Sequence[Example]) -> dict[str, Any]:
    scored = _scored(examples)
    metrics: dict[str, Any] = {}
    if scored:
        predicted = np.array([answers[row].scores[0] for row in scored])
        true = np.array([examples[row].target for row in scored])
        metrics["spearman"] = round(correlation(rankdata(predicted), rankdata(true)), 4)
        metrics["pearson"] = round(correlation(predicted, true), 4)
    others = sorted(set(range(len(examples))) - set(scored))
    if others:
        found = search([answers[row] for row in others], [examples[row] for row in others])
        metrics |= retrieval_metrics(found.ranks)
    return {**metrics, "rows": len(examples)}


def _wrong_neighbours(found: Search, examples: Sequence[Example], limit: int) -> list[dict[str, Any]]:
    """The texts whose partner ranks lowest, with the text that is nearest in its place."""
    order = [int(row) for row in np.argsort(-found.ranks, kind="stable")[:limit] if found.ranks[row] > 1]
    return [
        {
            "where": examples[row].where,
            "fields": {
                "text": examples[row].item.source_sentence,
                "text_pair": examples[row].item.sentences[0],
                "nearest": found.nearest[row],
            },
            "right": [f"cosine {found.cosines[row, 0]:.3f}, place {found.ranks[row]:,} of {found.num_texts:,}"],
            "guessed": [f"cosine {found.cosines[row, 1]:.3f}"],
            "loss": round(float(1 - 1 / found.ranks[row]), 4),
            "words": [],
        }
        for row in order
    ]

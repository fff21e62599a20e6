"""What a model is compared with that costs nothing: methods without a transformer, on the same held-out rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from scripts.export.formatting import format_value, metric_name
from scripts.training.bootstrap import paired_difference
from scripts.training.data import Example

if TYPE_CHECKING:
    from scripts.tasks.spec import TrainingTask

MAX_ROWS = 20_000
"""Training rows that TF-IDF reads, drawn at random: more take minutes, and no longer change much."""
MAX_CHARACTERS = 2_000
"""Of a text that TF-IDF reads."""
MAX_FEATURES, MAX_WEIGHTS = 50_000, 4_000_000
"""Words and pairs of words that count, and these times the labels: what bounds the time of the fit."""
MAX_ITERATIONS = 200
LONG_WORD = 15
"""Characters from space to space above which a language is taken to be written without spaces: then characters are counted."""


def measure_baselines(
    training: TrainingTask,
    train: Sequence[Example],
    examples: Sequence[Example],
    answers: Sequence[Any],
    task_options: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Each baseline's metrics, and by how much the model's answers are better on the same rows.

    Args:
        train: what the model was trained on; a baseline learns from nothing else.
        answers: the model's, to these rows.

    Returns:
        As `compare_baselines`.
    """
    return compare_baselines(training, training.baselines(train, examples, task_options), examples, answers, task_options)


def compare_baselines(
    training: TrainingTask,
    baselines: Iterable[tuple[str, Sequence[Any]]],
    examples: Sequence[Example],
    answers: Sequence[Any],
    task_options: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """The same for baselines that have answered: each is a name and answers to the examples.

    Returns:
        By the baseline's name: `headline`, and `difference` (see `Difference.as_json`) where row scores are numbers.
    """
    scores = training.row_scores(answers, examples)
    results: dict[str, dict[str, Any]] = {}
    for name, baseline in baselines:
        figures = training.evaluate(baseline, examples, task_options)["headline"]
        own = {key: value for key, value in figures.items() if key != "rows" and not is_reference(training, key)}
        results[name] = {"headline": own}
        difference = paired_difference(scores, training.row_scores(baseline, examples))
        if difference is not None:
            metric = {"metric": training.metric_of(examples), "is_error": training.primary_is_error}
            results[name]["difference"] = {**metric, **difference.as_json()}
    return results


def is_reference(training: TrainingTask, key: str) -> bool:
    """Whether a figure of the headline is one that the model's are compared with, and not its own."""
    return key.startswith(tuple(training.reference_prefixes))


def describe_baselines(baselines: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """A sentence on each: `majority class: accuracy 0.3333, macro F1 0.1667`."""
    return [
        f"{name}: "
        + ", ".join(f"{names.get(key) or metric_name(key)} {format_value(value)}" for key, value in result["headline"].items())
        for name, result in baselines.items()
    ]


def unbeaten(baselines: Mapping[str, Mapping[str, Any]], names: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """A sentence on each baseline that the model is not clearly better than; on few rows chance alone may make a difference.

    `names`: of metrics, where the task has others for them.
    """
    return [
        sentence
        for name, result in baselines.items()
        if "difference" in result and (sentence := _verdict(name, result["difference"], names))
    ]


def _verdict(name: str, difference: Mapping[str, Any], names: Mapping[str, str]) -> str:
    mean, low, high = (difference[key] for key in ("mean", "low", "high"))
    if low > 0:
        return ""
    metric = (names.get(difference["metric"]) or metric_name(difference["metric"])) + (
        " smaller by" if difference["is_error"] else ""
    )
    figures = f"{metric} {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, {difference['rows']:,} rows"
    if high < 0:
        return f"the model is worse than {name} ({figures})"
    if mean <= 0:
        return f"the model does not beat {name} ({figures})"
    return f"the model beats {name}, but on so few rows that may be chance ({figures})"


@dataclass(frozen=True)
class _Texts:
    """Vectors of the training texts, and what makes vectors of others."""

    vectors: Any
    vectorizer: TfidfVectorizer
    rows: Sequence[int]
    """Which of the training rows they are."""


Predict = Callable[[Sequence[str]], np.ndarray]


def fit_classifier(texts: Sequence[str], targets: np.ndarray, num_labels: int) -> Predict | None:
    """TF-IDF and logistic regression.

    Args:
        targets: label numbers (rows,), or indicators of several labels (rows, labels).
        num_labels: how many there are.

    Returns:
        What gives scores between 0 and 1 for other texts, (rows, labels); None where there are no words, or only one label.
    """
    fitted = _vectors(texts, num_labels)
    if fitted is None:
        return None
    own = targets[fitted.rows]
    model: Any = LogisticRegression(C=10.0, max_iter=MAX_ITERATIONS, tol=1e-3)
    if own.ndim == 2:
        model = OneVsRestClassifier(model)
    elif len(np.unique(own)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="Label .* is present in all training examples|Label not")
        model.fit(fitted.vectors, own)
    labels = np.arange(num_labels) if own.ndim == 2 else model.classes_

    def predict(others: Sequence[str]) -> np.ndarray:
        scores = np.zeros((len(others), num_labels))
        scores[:, labels] = model.predict_proba(fitted.vectorizer.transform(_cut(others)))
        return scores

    return predict


def fit_regressor(texts: Sequence[str], targets: np.ndarray) -> Predict | None:
    """TF-IDF and ridge regression, as `fit_classifier`: what gives a number for each of other texts, (rows,)."""
    fitted = _vectors(texts, 1)
    if fitted is None:
        return None
    model = Ridge(alpha=1.0)
    model.fit(fitted.vectors, targets[fitted.rows])
    return lambda others: np.asarray(model.predict(fitted.vectorizer.transform(_cut(others))))


def _vectors(texts: Sequence[str], num_labels: int) -> _Texts | None:
    rows: Any = range(len(texts))
    if len(texts) > MAX_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(len(texts), MAX_ROWS, replace=False))
    cut = _cut([texts[row] for row in rows])
    units: dict[str, Any] = {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
    if _is_without_spaces(cut):
        units = {"analyzer": "char", "ngram_range": (1, 3)}
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, max_features=max(1000, min(MAX_FEATURES, MAX_WEIGHTS // num_labels)), dtype=np.float32, **units
    )
    try:
        return _Texts(vectorizer.fit_transform(cut), vectorizer, rows)
    except ValueError:  # no word in any of them
        return None


def _cut(texts: Sequence[str]) -> list[str]:
    return [text[:MAX_CHARACTERS] for text in texts]


def _is_without_spaces(texts: Sequence[str]) -> bool:
    sample = texts[:1000]
    return sum(map(len, sample)) > LONG_WORD * sum(len(text.split()) for text in sample)

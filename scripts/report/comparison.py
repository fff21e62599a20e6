"""Two published versions on the same texts: how good, how fast, how often they agree, and where they do not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from app.core.errors import InvalidSettings
from app.core.manifest import Manifest
from scripts.export.eval_data import EvalData, load_eval_data
from scripts.export.published import OpenVersion
from scripts.report.overlap import Overlap
from scripts.training.bootstrap import paired_difference
from scripts.training.evaluation import Predictions, predict
from scripts.training.recipe import Recipe

RUNS = Path(Recipe().runs)
ROUNDS, TIMED_ITEMS = 3, 256
"""Both are timed in turn on the same items, so many times; the fastest of each counts."""


@dataclass(frozen=True)
class ComparedVersions:
    """Both versions, and what they answered."""

    versions: Sequence[OpenVersion]
    data: EvalData
    predictions: Sequence[Predictions]


def compare(version: OpenVersion, other: OpenVersion, recipe: Recipe, limit: int, runs: Path = RUNS) -> dict[str, Any]:
    """Everything that `hooper compare` tells.

    Args:
        recipe: `validation` names the texts; without any, built-in ones are taken.
        limit: so many texts at most on which they differ.
        runs: folder of the runs, where trainings keep which rows they had.

    Raises:
        InvalidSettings: they cannot be compared, or the texts cannot be used.
    """
    wider = _wider(version.manifest, other.manifest)
    data = load_eval_data(version.training, wider.task_options, recipe, wider.data_format)
    items = [example.item for example in data.examples]
    predictions = [predict(each.task, each.training.serving_options(), items, each.session) for each in (version, other)]
    compared = ComparedVersions((version, other), data, predictions)
    differing = [index for index in range(len(items)) if not _agree(compared, index)]
    differing.sort(key=lambda index: -_clarity(compared, index))
    return {
        "versions": [each.name for each in compared.versions],
        "task": version.manifest.task,
        "data": data.origin,
        "rows": len(items),
        "figures": _metrics(compared, range(len(items))),
        **_difference_of_scores(compared, range(len(items)), "difference"),
        **_without_trained(compared, runs),
        "published_figures": [each.manifest.evaluation for each in compared.versions],
        "items_per_s": [round(rate, 1) for rate in _rates(compared, items)],
        "num_bytes": [sum(entry.num_bytes for entry in each.manifest.files.values()) for each in compared.versions],
        "agreement": round(1 - len(differing) / len(items), 4),
        "num_differing": len(differing),
        **_right_alone(compared, differing),
        "differing": [_difference(compared, index) for index in differing[:limit]],
    }


def _wider(version: Manifest, other: Manifest) -> Manifest:
    """The one whose labels are all that there are."""
    if version.task != other.task:
        raise InvalidSettings(
            f"{version.name} is for {version.task}, {other.name} for {other.task}; only like can be compared with like"
        )
    if version.task_options.get("problem_type") != other.task_options.get("problem_type"):
        raise InvalidSettings("one of them gives a label, the other a number or several labels; they cannot be compared")
    labels, others = (set(each.task_options.get("labels", ())) for each in (version, other))
    if not labels <= others and not others <= labels:
        raise InvalidSettings(f"each of them has labels that the other lacks: {min(labels - others)}, {min(others - labels)}")
    return version if others <= labels else other


def _agree(compared: ComparedVersions, index: int) -> bool:
    answer, other = (predictions.answers[index] for predictions in compared.predictions)
    version = compared.versions[0]
    return bool(version.task.same_decision(answer, other, version.training.serving_options()))


def _clarity(compared: ComparedVersions, index: int) -> float:
    """How far apart both answers are or, where that is no number, how sure the less sure of both is."""
    answers = [predictions.answers[index] for predictions in compared.predictions]
    distance = compared.versions[0].training.distance(*answers)
    return min(map(_confidence, compared.versions, answers)) if distance is None else distance


def _confidence(version: OpenVersion, answer: Any) -> float:
    decision = version.task.decision(answer, version.training.serving_options())
    return 0.0 if decision is None else float(decision.confidence)


def _metrics(compared: ComparedVersions, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Of labelled texts alone."""
    if not compared.data.is_labelled:
        return []
    examples = [compared.data.examples[row] for row in rows]
    return [
        version.training.evaluate([predictions.answers[row] for row in rows], examples, version.manifest.task_options)[
            "headline"
        ]
        for version, predictions in zip(compared.versions, compared.predictions, strict=True)
    ]


def _difference_of_scores(compared: ComparedVersions, rows: Sequence[int], key: str) -> dict[str, Any]:
    """By how much the second is better, with its interval; nothing where that is no number."""
    if not compared.data.is_labelled:
        return {}
    training, examples = compared.versions[0].training, [compared.data.examples[row] for row in rows]
    first, second = (
        training.row_scores([predictions.answers[row] for row in rows], examples) for predictions in compared.predictions
    )
    difference = paired_difference(second, first)
    metric = {"metric": training.metric_of(examples), "is_error": training.primary_is_error}
    return {} if difference is None else {key: {**metric, **difference.as_json()}}


def _without_trained(compared: ComparedVersions, runs: Path) -> dict[str, Any]:
    """How many texts each was trained on, None where that is not known; and the figures on those that neither was."""
    if not compared.data.is_own:
        return {}
    examples = compared.data.examples
    overlaps = [Overlap.of(version.manifest, examples, runs) for version in compared.versions]
    counts = [None if overlap.parts is None else overlap.count("train") for overlap in overlaps]
    result: dict[str, Any] = {"trained_on": counts}
    if any(counts):
        known = [overlap.parts for overlap in overlaps if overlap.parts is not None]
        rows = [row for row in range(len(examples)) if not any(parts[row] == "train" for parts in known)]
        result["rows_not_trained_on"] = len(rows)
        if rows:
            result["figures_not_trained_on"] = _metrics(compared, rows)
            result |= _difference_of_scores(compared, rows, "difference_not_trained_on")
    return result


def _rates(compared: ComparedVersions, items: Sequence[Any]) -> list[float]:
    """Items a second, tokenizing included."""
    timed = items[:TIMED_ITEMS]
    seconds = np.full((2, ROUNDS), np.inf)
    for number in range(ROUNDS):
        for line, version in enumerate(compared.versions):
            start = time.perf_counter()
            predict(version.task, version.training.serving_options(), timed, version.session)
            seconds[line, number] = time.perf_counter() - start
    return [len(timed) / float(fastest) for fastest in seconds.min(1)]


def _right_alone(compared: ComparedVersions, differing: Sequence[int]) -> dict[str, Any]:
    """How often each is right where the other is wrong, and how likely chance alone makes that so uneven (McNemar, exact);
    nothing where an answer is neither right nor wrong."""
    if not compared.data.is_labelled:
        return {}
    training, examples = compared.versions[0].training, compared.data.examples
    if training.is_correct(compared.predictions[0].answers[0], examples[0]) is None:
        return {}
    hits = [
        [bool(training.is_correct(predictions.answers[index], examples[index])) for index in differing]
        for predictions in compared.predictions
    ]
    counts = [sum(a and not b for a, b in zip(*order, strict=True)) for order in (hits, hits[::-1])]
    p_value = binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1.0
    return {"right_alone": {"rows": counts, "p_value": round(float(p_value), 4)}}


def _difference(compared: ComparedVersions, index: int) -> dict[str, Any]:
    example = compared.data.examples[index]
    pairs = [
        (version, predictions.answers[index])
        for version, predictions in zip(compared.versions, compared.predictions, strict=True)
    ]
    return {
        "where": example.where,
        "fields": compared.versions[0].training.item_fields(example.item),
        "said": [version.training.answer_texts(answer, version.manifest.task_options) for version, answer in pairs],
        "confidence": [round(_confidence(version, answer), 4) for version, answer in pairs],
        **({"right": compared.versions[0].training.label_texts(example)} if compared.data.is_labelled else {}),
    }

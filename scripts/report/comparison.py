"""Two published versions on the same texts: how good, how fast, how often they agree, and where they do not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from app.core.errors import InvalidSettings
from app.core.manifest import Manifest
from scripts.export.eval_data import EvalData, load_eval_data
from scripts.export.published import OpenVersion
from scripts.training.data import Example
from scripts.training.evaluation import Predictions, predict
from scripts.training.metrics import exact_match
from scripts.training.recipe import Recipe

ROUNDS, TIMED_ITEMS = 3, 256
"""Both are timed in turn on the same items, so many times; the fastest of each counts."""


@dataclass(frozen=True)
class Pair:
    """Both versions, and what they answered."""

    versions: Sequence[OpenVersion]
    texts: EvalData
    predictions: Sequence[Predictions]

    @property
    def options(self) -> Mapping[str, Any]:
        return self.versions[0].manifest.task_options


def compare(one: OpenVersion, other: OpenVersion, recipe: Recipe, most: int) -> dict[str, Any]:
    """Everything that `hooper compare` tells.

    Args:
        one: a version.
        other: another of the same task.
        recipe: `validation` names the texts; without any, built-in ones are taken.
        most: so many texts at most on which they differ.

    Raises:
        InvalidSettings: they cannot be compared, or the texts cannot be used.
    """
    wider = _wider(one.manifest, other.manifest)
    texts = load_eval_data(one.offline, wider.task_options, recipe)
    items = [example.item for example in texts.examples]
    answered = [predict(each.task, each.offline.serving_options(), items, each.session) for each in (one, other)]
    pair = Pair((one, other), texts, answered)
    differing = [index for index in range(len(items)) if not _agree(pair, index)]
    differing.sort(key=lambda index: -_sureness(pair, index))
    return {
        "versions": [each.name for each in pair.versions],
        "task": one.manifest.task,
        "data": texts.origin,
        "rows": len(items),
        "figures": _figures(pair),
        "published_figures": [each.manifest.evaluation for each in pair.versions],
        "items_per_s": [round(rate, 1) for rate in _rates(pair, items)],
        "num_bytes": [sum(entry.num_bytes for entry in each.manifest.files.values()) for each in pair.versions],
        "agreement": round(1 - len(differing) / len(items), 4),
        "num_differing": len(differing),
        **({"right_alone": _right_alone(pair, differing)} if _can_be_right(pair) else {}),
        "differing": [_difference(pair, index) for index in differing[:most]],
    }


def _wider(one: Manifest, other: Manifest) -> Manifest:
    """The one whose labels are all that there are."""
    if one.task != other.task:
        raise InvalidSettings(
            f"{one.name} is for {one.task}, {other.name} for {other.task}; only like can be compared with like"
        )
    if one.task_options.get("problem_type") != other.task_options.get("problem_type"):
        raise InvalidSettings("one of them gives a label, the other a number or several labels; they cannot be compared")
    labels, others = (set(each.task_options.get("labels", ())) for each in (one, other))
    if not labels <= others and not others <= labels:
        raise InvalidSettings(f"each of them has labels that the other lacks: {min(labels - others)}, {min(others - labels)}")
    return one if others <= labels else other


def _agree(pair: Pair, index: int) -> bool:
    one, other = (each.answers[index] for each in pair.predictions)
    version = pair.versions[0]
    return bool(version.task.same_decision(one, other, version.offline.serving_options()))


def _sureness(pair: Pair, index: int) -> float:
    """How sure the less sure of both is; of numbers how far apart they are."""
    if _is_number(pair):
        one, other = (each.answers[index].labels[0].score for each in pair.predictions)
        return abs(float(one) - float(other))
    return min(_confidence(version, each.answers[index]) for version, each in zip(pair.versions, pair.predictions, strict=True))


def _confidence(version: OpenVersion, answer: Any) -> float:
    decision = version.task.decision(answer, version.offline.serving_options())
    return 0.0 if decision is None else float(decision.confidence)


def _figures(pair: Pair) -> list[dict[str, Any]]:
    """Of labelled texts alone."""
    if not pair.texts.is_labelled:
        return []
    pairs = zip(pair.versions, pair.predictions, strict=True)
    return [
        version.offline.evaluate(found.answers, pair.texts.examples, version.manifest.task_options)["headline"]
        for version, found in pairs
    ]


def _rates(pair: Pair, items: Sequence[Any]) -> list[float]:
    """Items a second, tokenizing included."""
    timed = items[:TIMED_ITEMS]
    seconds = np.full((2, ROUNDS), np.inf)
    for number in range(ROUNDS):
        for line, version in enumerate(pair.versions):
            began = time.perf_counter()
            predict(version.task, version.offline.serving_options(), timed, version.session)
            seconds[line, number] = time.perf_counter() - began
    return [len(timed) / float(fastest) for fastest in seconds.min(1)]


def _can_be_right(pair: Pair) -> bool:
    """Whether an answer is either right or wrong: a summary is neither, nor is a number."""
    return pair.texts.is_labelled and pair.versions[0].manifest.task != "summarization" and not _is_number(pair)


def _right_alone(pair: Pair, differing: Sequence[int]) -> dict[str, Any]:
    """How often each is right where the other is wrong, and how likely chance alone makes that so uneven (McNemar, exact)."""
    rights = [
        [_is_right(found.answers[index], pair.texts.examples[index]) for index in differing] for found in pair.predictions
    ]
    alone = [sum(a and not b for a, b in zip(*order, strict=True)) for order in (rights, rights[::-1])]
    p_value = binomtest(alone[0], sum(alone)).pvalue if sum(alone) else 1.0
    return {"rows": alone, "p_value": round(float(p_value), 4)}


def _is_right(answer: Any, example: Example) -> bool:
    if hasattr(answer, "answers"):
        return bool(exact_match(_said(answer)[0], [gold.text for gold in example.target]))
    wanted = example.target if isinstance(example.target, tuple) else (example.target,)
    return set(_said(answer, isinstance(example.target, tuple))) == set(wanted)


def _said(answer: Any, several: bool = False) -> list[str]:
    """An answer in words."""
    if hasattr(answer, "labels"):
        return [one.label for one in answer.labels if one.score > 0.5] if several else [answer.labels[0].label]
    if hasattr(answer, "answers"):
        return [answer.answers[0].answer if answer.answers else ""]
    return [" ".join(one.text for one in answer.sentences)]


def _difference(pair: Pair, index: int) -> dict[str, Any]:
    example = pair.texts.examples[index]
    several = pair.options.get("problem_type") == "multi_label_classification"
    said = [
        [f"{found.answers[index].labels[0].score:.4g}"] if _is_number(pair) else _said(found.answers[index], several)
        for found in pair.predictions
    ]
    return {
        "where": example.where,
        "fields": {
            name: getattr(example.item, name) for name in example.item.__slots__ if getattr(example.item, name) is not None
        },
        "said": said,
        "confidence": [
            round(_confidence(version, found.answers[index]), 4)
            for version, found in zip(pair.versions, pair.predictions, strict=True)
        ],
        **({"right": _wanted(example)} if pair.texts.is_labelled else {}),
    }


def _wanted(example: Example) -> list[str]:
    target = example.target
    if hasattr(target, "sentences"):
        return [" ".join(target.sentences)]
    if isinstance(target, tuple):
        return list(dict.fromkeys(str(getattr(one, "text", one)) for one in target))
    return [str(target)]


def _is_number(pair: Pair) -> bool:
    return bool(pair.options.get("problem_type") == "regression")

"""Drift: what items look like to a model and what it makes of them, summed up so that two times can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.core.manifest import NO_REFERENCE, DriftReference, Manifest
from app.tasks.base import Encoded, Task

MAX_LABELS = 20
"""Labels that are told one by one; a model may have thousands."""
OTHER = "(other)"
"""Stands for all further labels."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Over some answered items of one model."""

    num_items: int
    num_tokens: int
    """Special tokens included, as in every count of tokens."""
    num_unknown: int
    """Tokens that the vocabulary lacks."""
    num_decisions: int
    """Items whose answer has a score with its usual meaning."""
    confidence: float
    """Their best scores, added up."""
    labels: Mapping[str, int]
    """How many of them each label was best for; empty where the task has no labels."""


def summed(task: Task[Any, Any, Any], unknown_id: int | None, answers: Iterable[tuple[Encoded, Any]], options: Any) -> Sums:
    """
    Args:
        unknown_id: the token that stands for what the vocabulary lacks; None: it lacks nothing.
        answers: items with their answers.
        options: those that the items were asked with.
    """
    num_items = num_tokens = num_unknown = num_decisions = 0
    confidence = 0.0
    labels: Counter[str] = Counter()
    for encoded, answer in answers:
        num_items += 1
        num_tokens += encoded.num_tokens
        if unknown_id is not None:
            num_unknown += sum(row.input_ids.count(unknown_id) for row in encoded.rows)
        decision = task.decision(answer, options)
        if decision is not None:
            num_decisions += 1
            confidence += decision.confidence
            if decision.label:
                labels[decision.label] += 1
    return Sums(num_items, num_tokens, num_unknown, num_decisions, confidence, labels)


def reference_of(sums: Sums) -> DriftReference:
    """Means and shares, the most frequent labels by name."""
    if not sums.num_items:
        return NO_REFERENCE
    ranked = sorted(sums.labels.items(), key=lambda label: (-label[1], label[0]))
    rest = sum(count for _, count in ranked[MAX_LABELS:])
    counts = [*ranked[:MAX_LABELS], *([(OTHER, rest)] if rest else [])]
    return DriftReference(
        num_items=sums.num_items,
        tokens_per_item=round(sums.num_tokens / sums.num_items, 2),
        unknown_token_share=round(sums.num_unknown / sums.num_tokens, 6),
        confidence=round(sums.confidence / sums.num_decisions, 4) if sums.num_decisions else None,
        label_shares={label: round(count / sums.num_decisions, 4) for label, count in counts},
    )


def named_labels(manifest: Manifest) -> tuple[str, ...]:
    """The labels that are told one by one: the reference's, then the model's others in its order."""
    labels = dict.fromkeys([*manifest.reference.label_shares, *manifest.task_options.get("labels", ())])
    return tuple(label for label in labels if label != OTHER)[:MAX_LABELS]

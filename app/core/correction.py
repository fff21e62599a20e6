"""A correction: what a model answered to an item, beside what a person says is right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.core.types import TaskName


@dataclass(frozen=True, slots=True)
class Correction:
    """One item, the answer of one version of a model, and the right correction."""

    model: str
    version: int
    task: TaskName
    item: Mapping[str, Any]
    """The fields of the task's item."""
    predicted: Mapping[str, Any]
    """The answer, as the task's own route tells it."""
    right: Mapping[str, Any]
    """`label` or `labels`; `answer` and `start`, empty where the context has no answer; `sentences`; or the text that
    should have been written."""
    agrees: bool
    """Whether the model was right."""
    request_id: str
    at: str
    """UTC, as ISO 8601 writes it."""
    source: str = ""
    comment: str = ""
    id: int = 0
    """Counts up in the order in which they were kept; 0: not kept yet."""

    @property
    def key(self) -> str:
        """The same for two corrections of the same item."""
        return canonical(self.item)


@dataclass(frozen=True, slots=True)
class Latest:
    """The last correction of each item, in their order."""

    corrections: Sequence[Correction]
    num_repeated: int
    """Earlier corrections of the same items, which are left out."""
    num_conflicting: int
    """Items of which two corrections said different things."""


def latest(corrections: Iterable[Correction]) -> Latest:
    """The last word on each item.

    Args:
        corrections: in the order in which they were kept.
    """
    last: dict[str, Correction] = {}
    conflicting = set()
    num_seen = 0
    for correction in corrections:
        num_seen += 1
        before = last.pop(correction.key, None)
        if before is not None and before.right != correction.right:
            conflicting.add(correction.key)
        last[correction.key] = correction
    return Latest(list(last.values()), num_seen - len(last), len(conflicting))


def canonical(fields: Mapping[str, Any]) -> str:
    """JSON that is the same for the same fields."""
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

"""Corrections as the service keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.core.correction import Correction
from app.core.feedback import FeedbackFile

CORRECTION = Correction(
    model="tiny",
    version=1,
    task="text-classification",
    item={"text": "a good film"},
    predicted={"labels": [{"label": "good", "score": 0.9}, {"label": "bad", "score": 0.1}]},
    right={"label": "bad"},
    agrees=False,
    request_id="request-1",
    at="2026-01-01T00:00:00.000+00:00",
)
MEGABYTE = 1_048_576


def labelled(text: str, label: str, **more: Any) -> Correction:
    """A correction of `tiny`, which had said that the text is good."""
    return replace(CORRECTION, item={"text": text}, right={"label": label}, agrees=label == "good", **more)


def write_feedback(path: Path, corrections: Sequence[Correction]) -> Path:
    """A feedback file of these corrections."""
    with FeedbackFile(path, 16 * MEGABYTE) as file:
        file.add(corrections)
    return path

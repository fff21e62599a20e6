"""Tiny published models, and texts that they are judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.tasks.text_classification.task import ClassificationItem
from scripts.export.published import open_version
from scripts.report.judged import Judged
from scripts.report.of_version import judge
from scripts.training.data import Example
from tests.support.tiny_model import publish_tiny

Judge = Callable[..., Judged]


@pytest.fixture
def judge_tiny(tmp_path: Path) -> Judge:
    """Has the tiny classifier answer texts, whose first words decide: "bad" is the first label, "good" the last."""

    def made(pairs: Sequence[tuple[str, Any]], labels: Sequence[str] = ("bad", "good"), **options: Any) -> Judged:
        publish_tiny(tmp_path, labels=labels, **options)
        examples = [
            Example(ClassificationItem(text), target, "a.csv", f"a.csv:{n}") for n, (text, target) in enumerate(pairs, 2)
        ]
        return judge(open_version("tiny", tmp_path), examples, ["2 labels"])

    return made

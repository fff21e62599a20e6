"""Rows that a tiny model learns from within seconds."""

from __future__ import annotations

import random

import pytest

from app.core.types import Row
from scripts.offline.tasks.base import TrainingRow
from tests.tiny import VOCABULARY

NUM_ROWS = 40


@pytest.fixture
def training_rows() -> list[TrainingRow]:
    """Rows of many lengths whose label is whether `good` or `bad` stands in them."""
    words = random.Random(2)
    rows = []
    for index in range(NUM_ROWS):
        word = VOCABULARY["good" if index % 2 else "bad"]
        ids = [2, word, *(words.randrange(4, 11) for _ in range(index % 9)), 3]
        rows.append(TrainingRow(Row(ids, [0] * len(ids)), index % 2))
    return rows

"""How a vector looks on a terminal, and how long its answer is at most."""

from __future__ import annotations

import json

import numpy as np

from app.tasks.feature_extraction.spec import SPEC
from app.tasks.feature_extraction.task import DECIMALS, EmbedOptions


def test_a_line_shows_how_many_numbers_there_are_and_the_first_of_them() -> None:
    (line,) = SPEC.lines({"text": "a film"}, {"embedding": [0.1, -0.2, 0.3, 0.4, 0.5]}, 1)
    assert (line.answer, line.source) == ("5 numbers: 0.1000, -0.2000, 0.3000, 0.4000, …", "a film")


def test_no_vector_of_length_1_is_longer_than_was_reckoned() -> None:
    """A number is told to so many decimals that it takes no more bytes than that."""
    vector = np.random.default_rng(0).normal(size=384)
    written = json.dumps(np.round(vector / np.linalg.norm(vector), DECIMALS).tolist(), separators=(",", ":"))
    assert len(written) <= SPEC.answer_bytes({"dimensions": 384}, EmbedOptions())
    assert SPEC.answer_bytes({"dimensions": 384}, EmbedOptions(dimensions=64)) < len(written) / 4

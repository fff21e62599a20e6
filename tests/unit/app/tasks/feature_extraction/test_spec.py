"""How a vector looks on a terminal, and how long its answer is at most."""

from __future__ import annotations

import json

import numpy as np

from app.tasks.feature_extraction.protocols import TOKEN_DECIMALS
from app.tasks.feature_extraction.spec import SPEC
from app.tasks.feature_extraction.task import DECIMALS, EmbedOptions


def test_a_line_shows_how_many_numbers_there_are_and_the_first_of_them() -> None:
    (line,) = SPEC.lines({"text": "a film"}, {"embedding": [0.1, -0.2, 0.3, 0.4, 0.5]}, 1)
    assert (line.answer, line.source) == ("5 numbers: 0.1000, -0.2000, 0.3000, 0.4000, …", "a film")


def test_no_vector_of_length_1_is_longer_than_was_reckoned() -> None:
    """A number is told to so many decimals that it takes no more bytes than that."""
    vector = np.random.default_rng(0).normal(size=384)
    written = json.dumps(np.round(vector / np.linalg.norm(vector), DECIMALS).tolist(), separators=(",", ":"))
    sizes = {"dimensions": 384, "token_dimensions": 100}
    bound, for_each_token = SPEC.answer_bytes(sizes, EmbedOptions())
    assert len(written) <= bound
    assert for_each_token == 0
    assert SPEC.answer_bytes(sizes, EmbedOptions(dimensions=64))[0] < len(written) / 4


def test_vectors_of_tokens_are_reckoned_by_the_tokens_that_are_read() -> None:
    vector = 20 * np.random.default_rng(0).normal(size=100)
    written = json.dumps(np.round(vector, TOKEN_DECIMALS).tolist(), separators=(",", ":"))
    bound, for_each_token = SPEC.answer_bytes({"dimensions": 384, "token_dimensions": 100}, EmbedOptions(of_tokens=True))
    assert bound == 0
    assert len(written) <= for_each_token

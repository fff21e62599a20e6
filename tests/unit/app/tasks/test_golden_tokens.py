"""Tokens of golden answers are compared up to the first near tie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from app.tasks.golden_tokens import are_as_published, written_in

PUBLISHED = {"token_ids": [5, 6, 7, 1], "gaps": [2.0, 1.0, 0.005, 3.0]}


@pytest.mark.parametrize(
    ("token_ids", "tolerance", "is_same"),
    [
        ([5, 6, 7, 1], 1e-3, True),
        ([5, 6, 8, 9, 1], 1e-3, False),
        ([5, 6, 8, 9, 1], 0.01, True),
        ([5, 9, 7, 1], 0.01, False),
        ([9, 6, 7, 1], 0.01, False),
        ([5, 6, 7, 2], 0.01, True),
        ([5, 6, 7], 1e-3, False),
        ([5, 6, 7, 1, 4], 1e-3, False),
    ],
    ids=str,
)
def test_tokens_are_those_published_up_to_the_first_near_tie(token_ids: Sequence[int], tolerance: float, is_same: bool) -> None:
    assert are_as_published([{"token_ids": np.array(token_ids)}], [PUBLISHED], tolerance) is is_same


def test_every_row_counts_and_none_may_be_missing() -> None:
    right, wrong = {"token_ids": np.array([5, 6, 7, 1])}, {"token_ids": np.array([4])}
    assert not are_as_published([right, wrong], [PUBLISHED, PUBLISHED], 1e-3)
    with pytest.raises(ValueError, match="longer"):
        are_as_published([right], [PUBLISHED, PUBLISHED], 1e-3)


def test_a_form_with_tokens_of_its_own_is_compared_with_those() -> None:
    answer = {"text": "a", "rows": [PUBLISHED], "rows_int4": [{"token_ids": [9], "gaps": [1.0]}]}
    assert written_in("int4", answer)["rows"] == [{"token_ids": [9], "gaps": [1.0]}]
    assert written_in("int8", answer)["rows"] == [PUBLISHED]
    assert written_in("int4", "no answer of a model that writes") == "no answer of a model that writes"

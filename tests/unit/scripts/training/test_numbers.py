"""How the numbers of a column are written."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.training.numbers import has_decimal_commas, with_point


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["3,5", "4", "2,25"], True),
        (["0,125", "-7,5", "k. A.", "", None], True),
        (["1.234,50", "12"], True),
        (["3,5", "3.5"], False),  # two ways in one column
        (["1,234", "5,678"], False),  # may be thousands
        (["1,234.5", "3,5"], False),
        (["1,2", "1,2,3"], False),  # lists
        (["3", "4"], False),
        ([3.5, 4], False),
        ([], False),
    ],
)
def test_a_column_has_decimal_commas_where_nothing_in_it_says_otherwise(cells: list[Any], expected: bool) -> None:
    assert has_decimal_commas(cells) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [("3,5", "3.5"), ("-1.234,50", "-1234.50"), ("3.5", "3.5"), ("3, 5", "3, 5"), ("a,5", "a,5")]
)
def test_a_number_with_a_comma_gets_a_point(text: str, expected: str) -> None:
    assert with_point(text) == expected

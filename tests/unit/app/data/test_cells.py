"""Cells mean the same whatever wrote them: spreadsheets, pandas, numpy, Hugging Face's data sets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from app.data.cells import in_lower_case, is_missing, literal, offset, plain, spelled, truth, with_names

NAN = float("nan")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (np.int64(3), 3),
        (np.array([[1.5, NAN]]), [[1.5, None]]),
        (Decimal("2.5"), 2.5),
        (NAN, None),
        ((1, (2,)), [1, [2]]),
        ({1: np.array(["a"])}, {"1": ["a"]}),
        ("text", "text"),
        (None, None),
    ],
)
def test_a_cell_becomes_pythons_own_value(cell: Any, expected: Any) -> None:
    assert plain(cell) == expected


@pytest.mark.parametrize("cell", [None, "", " \t", "nan", " NaN ", "<NA>", "NaT"])
def test_there_is_nothing_in_a_cell_in_any_spelling_of_nothing(cell: Any) -> None:
    assert is_missing(cell)


@pytest.mark.parametrize("cell", [0, False, "0", "none of it", "nana"])
def test_what_only_looks_like_nothing_is_something(cell: Any) -> None:
    assert not is_missing(cell)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        ("{'b', 'a'}", ["a", "b"]),
        ("['a' 'b c']", ["a", "b c"]),  # as numpy prints texts
        ("[1 2. -3]", [1, 2, -3]),  # and numbers
        ("{'text': array(['x'], dtype=object), 'answer_start': array([5])}", {"text": ["x"], "answer_start": [5]}),
        ('{"a": null}', {"a": None}),
        ("[[1], []]", [[1], []]),
    ],
)
def test_a_list_or_a_mapping_that_a_text_spells_is_read(text: str, expected: Any) -> None:
    assert literal(text) == spelled(text) == expected


@pytest.mark.parametrize("text", ["", "a", "[a]", "[1, 2", "(see above)", "[" * 9999 + "]" * 9999, "{__import__('os')}"])
def test_any_other_text_stays_a_text(text: str) -> None:
    assert literal(text) is None
    assert spelled(text) == text


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("Yes", True), (" TRUE ", True), (1, True), (1.0, True), ("no", False), ("0.0", False), (None, False), ("maybe", None)],
)
def test_yes_and_no_have_many_spellings(cell: Any, expected: bool | None) -> None:
    assert truth(cell) is expected


@pytest.mark.parametrize(("cell", "expected"), [(3, 3), ("3", 3), (3.0, 3), ("3.0", 3), ("nan", None), (None, None)])
def test_an_offset_is_a_whole_number_or_its_text(cell: Any, expected: int | None) -> None:
    assert offset(cell) == expected


@pytest.mark.parametrize("cell", [True, 1.5, "1.5", "third", [3]])
def test_anything_else_is_no_offset(cell: Any) -> None:
    with pytest.raises(ValueError):
        offset(cell)


def test_a_column_is_found_in_lower_case_too_and_its_own_name_wins() -> None:
    assert in_lower_case({"Question ": 1, "text": 2, "TEXT": 3}) == {"question": 1, "Question ": 1, "text": 2, "TEXT": 3}


def test_numbers_of_classes_become_their_names_however_deep_they_stand() -> None:
    label = {"_type": "ClassLabel", "names": ["bad", "good"]}
    cells: dict[str, tuple[Any, Any, Any]] = {  # what describes it, the cell, and what becomes of it
        "label": (label, 1, "good"),
        "labels": ({"feature": label}, [0, -1], ["bad", None]),
        "rows": ([{"label": label}], [{"label": 1}], [{"label": "good"}]),
        "nested": ({"feature": {"label": label}}, {"label": [0, 1]}, {"label": ["bad", "good"]}),
        "text": (None, "a", "a"),
    }
    features = {name: feature for name, (feature, _, _) in cells.items()}
    columns = {name: cell for name, (_, cell, _) in cells.items()}
    assert with_names(columns, features) == {name: expected for name, (_, _, expected) in cells.items()}

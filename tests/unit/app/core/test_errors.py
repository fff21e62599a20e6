"""The error tree is the one its docstring draws."""

from __future__ import annotations

import inspect
import re

import pytest

from app.core import errors
from app.core.errors import HooperError, InvalidInput, Overloaded

CLASSES = {name: found for name, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, HooperError)}


def drawn_parents() -> dict[str, str | None]:
    """Class to parent, read from the drawing: a name's parent is the nearest line above that is indented less."""
    parents: dict[str, str | None] = {}
    open_branches: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"[│├└─ ]*(?=[A-Z]\w+( {2}|$))", line)
        if found is None:
            continue
        name = line[found.end() :].split()[0]
        open_branches = [branch for branch in open_branches if branch[0] < found.end()]
        parents[name] = open_branches[-1][1] if open_branches else None
        open_branches.append((found.end(), name))
    return parents


def test_the_drawing_shows_every_error_under_its_parent() -> None:
    real = {name: None if entry is HooperError else entry.__bases__[0].__name__ for name, entry in CLASSES.items()}
    assert drawn_parents() == real


def test_every_error_has_a_type_of_its_own() -> None:
    by_protocol = (errors.EmptyBatch, errors.TooManyItems, errors.TooManyTokens)
    types = [entry.type for entry in CLASSES.values() if entry not in by_protocol]
    assert len(set(types)) == len(types)


def test_what_other_protocols_tell_apart_is_not_told_apart_by_the_native_ones() -> None:
    assert errors.EmptyBatch.type == errors.TooManyItems.type == InvalidInput.type
    assert errors.TooManyTokens.type == errors.TooLarge.type


@pytest.mark.parametrize(
    ("error", "detail"),
    [(InvalidInput("must not be empty", "text"), "text: must not be empty"), (InvalidInput("is odd"), "is odd")],
)
def test_an_invalid_input_names_its_field(error: InvalidInput, detail: str) -> None:
    assert error.detail == str(error) == detail


def test_an_overload_says_how_long_to_stay_away() -> None:
    assert Overloaded("full", retry_after_s=2.5).retry_after_s == 2.5

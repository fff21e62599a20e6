"""Text to text offline: which data is for it, and its figures."""

from __future__ import annotations

import pytest

from app.data import Record
from app.tasks.generation import SourceText
from scripts.tasks.generation.task import written
from scripts.tasks.text2text_generation import SPEC as TASK
from scripts.training.columns import TableSample
from scripts.training.data import Example
from scripts.training.recipe import Recipe


@pytest.mark.parametrize(
    ("names", "is_for_it"), [(("source", "target"), True), (("Input", "Output"), True), (("text", "label"), False)]
)
def test_pairs_with_telling_names_say_the_task(names: tuple[str, str], is_for_it: bool) -> None:
    rows = [{name: f"{name} is a text of words {number}" for name in names} for number in range(9)]
    table = TableSample.of([Record(f"a:{number}", row) for number, row in enumerate(rows)])
    assert (TASK.recognizes(Recipe(), table) > 0.5) is is_for_it


def test_figures_count_what_is_the_same_and_what_is_alike() -> None:
    examples = [Example(SourceText("x"), target, "a", "a:1") for target in ("Größe 3", "two")]
    headline = TASK.evaluate([written("Größe 3 "), written("tow")], examples, {})["headline"]
    assert headline["exact_match"] == 50.0
    assert headline["rougeLsum"] == 50.0
    assert 50 < headline["mean_chrf"] < 100

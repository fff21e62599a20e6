"""Columns of a file are matched with the fields of a task."""

from __future__ import annotations

import pytest

from app.core.fields import FieldSpec, match_columns

FIELDS = {
    "text": FieldSpec(("text", "review", "title", "sentence1")),
    "text_pair": FieldSpec(("text_pair", "sentence2"), required=False, partners=("text", "sentence1")),
}


@pytest.mark.parametrize(
    ("present", "matches"),
    [
        (["id", "review", "text"], {"text": "text"}),
        (["Review "], {"text": "Review "}),
        (["Text", "text"], {"text": "text"}),
        (["title", "sentence1", "sentence2"], {"text": "sentence1", "text_pair": "sentence2"}),
        (["title", "sentence2"], {"text": "title", "text_pair": "sentence2"}),
        (["sentence1"], {"text": "sentence1"}),
        (["a", "b"], {}),
    ],
)
def test_the_likeliest_column_holds_a_field_and_a_pair_stays_together(present: list[str], matches: dict[str, str]) -> None:
    assert match_columns(FIELDS, present) == matches


def test_a_column_that_a_person_names_counts_before_every_guess() -> None:
    present = ["title", "sentence1", "sentence2"]
    assert match_columns(FIELDS, present, {"text": "title", "text_pair": ""}) == {"text": "title", "text_pair": "sentence2"}
    assert match_columns(FIELDS, ["a"], {"text": "b"}) == {"text": "b"}

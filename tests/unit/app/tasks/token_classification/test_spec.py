"""What token classification prints on a terminal, and which columns hold its texts."""

from __future__ import annotations

from app.core.fields import match_columns
from app.tasks.token_classification.spec import SPEC


def test_each_entity_is_a_line_and_the_text_stands_beside_the_first() -> None:
    entities = [{"label": "PER", "text": "Anna", "score": 0.9}, {"label": "LOC", "text": "Bern", "score": 0.8}]
    lines = SPEC.lines({"text": "Anna in Bern"}, {"entities": entities}, 1)
    assert [(line.score, line.answer, line.source) for line in lines] == [
        (0.9, "PER: Anna", "Anna in Bern"),
        (0.8, "LOC: Bern", ""),
    ]
    (none,) = SPEC.lines({"text": "Nobody."}, {"entities": []}, 1)
    assert (none.score, none.answer, none.source) == (None, "(no entity)", "Nobody.")


def test_a_text_may_be_a_column_of_tokens() -> None:
    assert match_columns(SPEC.fields, ["tokens", "tags"]) == {"text": "tokens"}
    assert match_columns(SPEC.fields, ["tokens", "text"]) == {"text": "text"}

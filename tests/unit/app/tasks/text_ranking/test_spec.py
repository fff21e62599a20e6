"""Columns of files that hold queries and documents, and lines of a terminal."""

from __future__ import annotations

import pytest

from app.core.fields import match_columns
from app.tasks.text_ranking.spec import SPEC


@pytest.mark.parametrize(
    ("columns", "query", "document"),
    [
        (["query", "passage", "label"], "query", "passage"),
        (["id", "Question", "Answer"], "Question", "Answer"),
        (["text", "query"], "query", "text"),
        (["Suchanfrage", "Dokument"], "Suchanfrage", "Dokument"),
    ],
)
def test_fields_are_found_by_the_names_that_people_give_them(columns: list[str], query: str, document: str) -> None:
    assert match_columns(SPEC.fields, columns) == {"query": query, "document": document}


def test_a_line_has_the_document_with_its_score_and_what_it_was_scored_for() -> None:
    (line,) = SPEC.lines({"query": "open?", "document": "From nine."}, {"relevance_score": 0.5}, 1)
    assert (line.score, line.answer, line.source) == (0.5, "From nine.", "open?")

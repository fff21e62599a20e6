"""Which texts no model can read."""

from __future__ import annotations

import pytest

from app.tasks.base import refuse_text


@pytest.mark.parametrize("text", ["a", " a ", "0", "🙂", "\u200d", "\0", "a" * 100_000])
def test_a_text_with_a_character_is_read(text: str) -> None:
    assert refuse_text(text, "text") is None


@pytest.mark.parametrize(
    ("text", "reason"), [("", "must not be empty"), (" \t\n\u3000", "must not be empty"), ("a\ud800", "lone surrogate")]
)
def test_what_cannot_be_read_is_told_with_its_field(text: str, reason: str) -> None:
    error = refuse_text(text, "text_pair")
    assert error is not None
    assert error.field == "text_pair"
    assert reason in error.detail

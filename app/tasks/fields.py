"""Columns that fields of several tasks are found in."""

from __future__ import annotations

TEXT_COLUMNS = (
    "text", "sentence", "review", "content", "body", "document", "article", "dialogue", "utterance", "query", "question",
    "message", "title",
)  # fmt: skip

"""Crops of a training row: shorter texts for cheap first epochs."""

from __future__ import annotations

from app.core.types import Row


def head_and_tail(row: Row, limit: int) -> Row:
    """The row's first and last tokens, `limit` in all: both ends of a text say more than its middle."""
    if row.num_tokens <= limit:
        return row
    tail = limit // 2
    head = limit - tail
    ids, types = list(row.input_ids), list(row.token_type_ids)
    return Row(ids[:head] + ids[-tail:], types[:head] + types[-tail:])

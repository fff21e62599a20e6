"""Batches for offline runs: rows of similar length together, under a budget of padded tokens."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.types import Row

BUDGET = 4096
"""Tokens per batch, padding included: eight rows of 512, or 256 of 16."""


def token_batches(rows: Sequence[Row], budget: int = BUDGET) -> list[list[int]]:
    """Indices of the rows, longest first, in batches of at most `budget` padded tokens; a longer row comes alone."""
    order = sorted(range(len(rows)), key=lambda index: -rows[index].num_tokens)
    batches: list[list[int]] = []
    for index in order:
        # rows come longest first, so a batch's first row is its width
        if batches and (len(batches[-1]) + 1) * rows[batches[-1][0]].num_tokens <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches

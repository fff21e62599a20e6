"""The service's own engine for models that write, as a runner of rows."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.sequences import SamplingParams
from app.core.types import Row, RowOutput
from scripts.export.seq2seq.steps import Graphs, open_engine

NUM_CACHE_ROWS = 16
"""Texts that are written together."""


class WriterRunner:
    """Writes for rows as `SamplingParams` say; satisfies `RowRunner`."""

    def __init__(self, graphs: Graphs, max_tokens: int, how: SamplingParams) -> None:
        """
        Args:
            graphs: run on the processor in fp32.
            max_tokens: of the longest source.
            how: texts are written.
        """
        self._engine = open_engine(graphs, max_tokens, NUM_CACHE_ROWS)
        self._how = how

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        """`token_ids` and `sequence_index` of each row, (tokens,)."""
        return self._engine.generate(rows, self._how)

"""The service's own engine for models that write, as a runner of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.core.manifest import Manifest
from app.core.sequences import SamplingParams
from app.core.types import Row, RowOutput
from app.runtime.decoder_session import open_decoder
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.generation_engine import GenerationEngine
from app.runtime.providers import Provider

NUM_CACHE_ROWS = 16
"""Texts that are written together."""


class WriterRunner:
    """Writes for rows as `SamplingParams` say; satisfies `RowRunner`."""

    def __init__(
        self, encoder_file: Path, decoder_file: Path, manifest: Manifest, provider: Provider, how: SamplingParams
    ) -> None:
        """
        Args:
            encoder_file, decoder_file: the graphs.
            manifest: has a decoder.
            provider: what runs them.
            how: texts are written.
        """
        if manifest.decoder is None:
            raise TypeError(f"{manifest.name} does not write")
        encoder = EncoderEngine(encoder_file, manifest.graph, provider)
        session = open_decoder(decoder_file, manifest.decoder, provider, encoder.num_threads)
        self._engine = GenerationEngine(manifest, encoder, decoder_file, session, provider, NUM_CACHE_ROWS)
        self._how = how

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        """`token_ids` and `sequence_index` of each row, (tokens,)."""
        return self._engine.generate(rows, self._how)

"""The two graphs of a model that writes, on the way that the service runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.core.manifest import verify_files
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.export.seq2seq.greedy import GreedyWriter
from tests.support.tiny_writer import FAMILIES, TinyWriter, publish_tiny_writer


def writer_of(tiny: TinyWriter) -> GreedyWriter:
    manifest = tiny.manifest
    assert manifest.decoder is not None
    return GreedyWriter(
        tiny.folder / manifest.graph.file, manifest.graph, tiny.folder / manifest.decoder.file, manifest.decoder
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graphs_write_what_transformers_writes_alone_and_together(family: str, tmp_path: Path) -> None:
    tiny = publish_tiny_writer(tmp_path, family)
    verify_files(tiny.folder, tiny.manifest)
    writer = writer_of(tiny)
    assert writer.write(tiny.rows, 20) == list(tiny.written)
    assert [writer.write([row], 20)[0] for row in tiny.rows] == list(tiny.written)
    assert len(set(map(tuple, tiny.written))) >= 5, "texts must be told apart"
    assert sum(written[-1] == 1 for written in tiny.written) > 3, "and most of what is written must end"


def test_the_encoder_gives_keys_and_values_for_every_layer_of_the_decoder(tmp_path: Path) -> None:
    tiny = publish_tiny_writer(tmp_path, "bart")
    manifest = tiny.manifest
    (output,) = manifest.graph.outputs
    decoder = manifest.decoder
    assert decoder is not None
    assert (output.name, output.axis) == ("cross", "token")
    (computed,) = EncoderEngine(tiny.folder / manifest.graph.file, manifest.graph, choose_provider("cpu")).run_rows(
        tiny.rows[:1]
    )
    assert computed["cross"].shape == (tiny.rows[0].num_tokens, decoder.num_layers * 2 * decoder.num_heads * decoder.head_size)
    assert np.ptp(computed["cross"]) > 0


def test_the_limit_of_what_is_written_is_that_of_the_positions(tmp_path: Path) -> None:
    decoder = publish_tiny_writer(tmp_path, "bart").manifest.decoder
    assert decoder is not None
    assert (decoder.max_length, decoder.start_token_id, decoder.eos_token_ids) == (48, 1, (1,))

"""The plainest loop over the two graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.export.seq2seq.greedy import GreedyWriter
from tests.support.tiny_writer import TinyWriter, publish_tiny_writer


@pytest.fixture
def tiny(tmp_path: Path) -> TinyWriter:
    return publish_tiny_writer(tmp_path, "bart")


@pytest.fixture
def writer(tiny: TinyWriter) -> GreedyWriter:
    manifest = tiny.manifest
    assert manifest.decoder is not None
    return GreedyWriter(
        tiny.folder / manifest.graph.file, manifest.graph, tiny.folder / manifest.decoder.file, manifest.decoder
    )


def test_it_stops_at_the_limit(tiny: TinyWriter, writer: GreedyWriter) -> None:
    assert writer.write(tiny.rows, 2) == [written[:2] for written in tiny.written]


def test_it_gives_logits_while_it_is_made_to_write_something(tiny: TinyWriter, writer: GreedyWriter) -> None:
    row, written = tiny.rows[1], tiny.written[1]
    assert list(writer.logits_after(row, written).argmax(-1)) == list(written)
    other = writer.logits_after(row, [7, *written[1:]])
    assert other.shape == (len(written), 70)
    np.testing.assert_array_equal(other[0], writer.logits_after(row, written)[0])
    assert np.abs(other[1] - writer.logits_after(row, written)[1]).max() > 0.01

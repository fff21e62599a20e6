"""The plainest loop over the two graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.core.types import Row
from scripts.export.seq2seq.greedy import GreedyWriter
from tests.support.tiny_continuer import write_continuer
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


def test_texts_that_are_continued_together_have_the_logits_that_each_has_alone(tmp_path: Path) -> None:
    manifest, file = write_continuer(tmp_path), tmp_path / "model.onnx"
    assert manifest.decoder is not None
    continuer = GreedyWriter(file, manifest.graph, file, manifest.decoder)
    rows = [Row([12 + number] * length, [0] * length) for number, length in enumerate((3, 1, 9, 2, 7, 4, 1, 5, 6, 2))]
    tokens = [[7, 8, 9, 10, 11][: 1 + number % 5] for number in range(len(rows))]
    together = list(continuer.logits_of_each(rows, tokens))
    assert [len(logits) for logits in together] == [len(written) for written in tokens]
    for row, written, logits in zip(rows, tokens, together, strict=True):
        np.testing.assert_allclose(logits, continuer.logits_after(row, written), atol=1e-5)
        assert len(logits) == 1 or np.abs(logits[1] - logits[0]).max() > 0.01

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


def test_what_changes_the_logits_sees_what_was_written_and_decides(tiny: TinyWriter, writer: GreedyWriter) -> None:
    seen: list[list[int]] = []

    def always_seven(logits: np.ndarray, written: list[list[int]]) -> np.ndarray:
        seen.append([*written[0]])
        return np.eye(logits.shape[1], dtype=np.float32)[[7] * len(logits)]

    assert writer.write(tiny.rows[:2], 3, always_seven) == [[7, 7, 7], [7, 7, 7]]
    assert seen == [[], [7], [7, 7]]

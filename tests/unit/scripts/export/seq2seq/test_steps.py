"""Rows that graphs are compared on; the comparison itself is asked in `test_parity.py` and `test_int8.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.sequences import SamplingParams
from app.core.types import Row
from app.tasks.base import Encoded
from scripts.export.seq2seq.steps import NUM_TEXTS, GraphReference, Graphs, compare_steps, different_rows, open_engine_of
from tests.support.tiny_continuer import CPU, EOS, MAX_LENGTH, write_continuer
from tests.support.tiny_writer import MAX_POSITIONS, publish_tiny_writer


def test_rows_that_are_alike_are_compared_once_the_shortest_and_the_longest_among_them() -> None:
    rows = [Row([number] * length, [0] * length) for number in (5, 6) for length in range(1, 60)]
    entries = [Encoded([row, row], 0, False) for row in rows]
    chosen = different_rows(entries)
    assert len(chosen) == NUM_TEXTS == len({tuple(row.input_ids) for row in chosen})
    assert (chosen[0].num_tokens, chosen[-1].num_tokens) == (1, 59)
    assert len(different_rows(entries[:3])) == 3


def test_graphs_agree_with_themselves_in_every_step(tmp_path: Path) -> None:
    tiny = publish_tiny_writer(tmp_path, "bart")
    manifest = tiny.manifest
    assert manifest.decoder is not None
    graphs = Graphs(tiny.folder / "model.onnx", manifest.graph, tiny.folder / "decoder.onnx", manifest.decoder)
    sampling = SamplingParams(
        20, decoder_input_ids=(manifest.decoder.start_token_id,), eos_token_ids=manifest.decoder.eos_token_ids
    )
    reference = GraphReference(graphs, MAX_POSITIONS, tiny.rows, sampling)
    assert [list(written.tokens) for written in reference.written] == list(tiny.written)
    parity = compare_steps(reference, graphs)
    assert (parity.agreement, parity.max_abs_error, parity.passed) == (1.0, 0.0, True)
    assert parity.rows == sum(map(len, tiny.written))


def test_so_do_graphs_without_an_encoder(tmp_path: Path) -> None:
    manifest, file = write_continuer(tmp_path), tmp_path / "model.onnx"
    assert manifest.decoder is not None
    graphs = Graphs(file, manifest.graph, file, manifest.decoder)
    assert list(graphs.files) == [file]
    rows = [Row([5, 6, 7], [0] * 3), Row([9], [0])]
    reference = GraphReference(graphs, MAX_LENGTH, rows, SamplingParams(8, eos_token_ids=(EOS,)))
    parity = compare_steps(reference, graphs)
    assert (parity.agreement, parity.passed) == (1.0, True)
    assert parity.max_abs_error < 1e-5
    with pytest.raises(TypeError, match="does not write"):
        open_engine_of(file, file, manifest.model_copy(update={"decoder": None}), CPU, 2)

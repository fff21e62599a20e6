"""A decoder's graph over the memory of a cache: a step of some rows reads and writes these alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from app.runtime import decoder_session
from app.runtime.decoder_session import DecoderSession, open_decoder
from app.runtime.kv_cache import KvCache
from tests.support.tiny_decoder import CPU, LAYERS, MAX_SOURCE_TOKENS, START, WIDTH, logits_after, weights, write_decoder
from tests.support.tiny_model import row


def opened(path: Path, num_rows: int) -> DecoderSession:
    decoder = write_decoder(path)
    session = open_decoder(path, decoder, CPU, 1)
    return DecoderSession(path, decoder, session, KvCache(decoder, num_rows, MAX_SOURCE_TOKENS))


def add(session: DecoderSession, slot: int, *source: int) -> None:
    made = weights()
    session.cache.add(slot, (made["source"][list(source)] @ made["to_cross"]).reshape(-1, 2 * LAYERS * WIDTH))


def test_a_step_of_a_range_touches_no_other_row(tmp_path: Path) -> None:
    session = opened(tmp_path / "decoder.onnx", 4)
    cache = session.cache
    for slot in range(4):
        add(session, slot, slot + 5, 7)
    cache.input_ids[:, 0] = START
    session.step(range(1, 3), onnxruntime.RunOptions())
    for index in (1, 2):
        np.testing.assert_allclose(session.logits[index], logits_after(row(index + 5, 7), [START]), atol=1e-4)
        assert cache.past[:, :, index, :, 0].all()
    for index in (0, 3):
        assert not session.logits[index].any()
        assert not cache.past[:, :, index].any()
    assert not cache.past[..., 1:, :].any(), "more than one token was written"


def test_rows_of_different_lengths_take_a_step_together(tmp_path: Path) -> None:
    session = opened(tmp_path / "decoder.onnx", 2)
    for slot in range(2):
        add(session, slot, 5, 7)
    for token in (START, 6, 8):
        session.cache.input_ids[1] = token
        session.step(range(1, 2), onnxruntime.RunOptions())
        session.cache.past_lengths[1] += 1
    session.cache.input_ids[:, 0] = START, 9
    session.step(range(2), onnxruntime.RunOptions())
    np.testing.assert_allclose(session.logits[0], logits_after(row(5, 7), [START]), atol=1e-4)
    np.testing.assert_allclose(session.logits[1], logits_after(row(5, 7), [START, 6, 8, 9]), atol=1e-4)


def test_only_so_many_bindings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(tmp_path / "decoder.onnx", 4)
    for slot in range(4):
        add(session, slot, 5)
    session.cache.input_ids[:, 0] = START
    monkeypatch.setattr(decoder_session, "MAX_BINDINGS", 2)
    for rows in (range(1), range(2), range(3), range(1)):
        session.logits[:] = 0
        session.step(rows, onnxruntime.RunOptions())
        np.testing.assert_allclose(session.logits[0], logits_after(row(5), [START]), atol=1e-4)
        assert len(session._bindings) <= 2

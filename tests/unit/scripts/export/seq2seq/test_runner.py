"""Published graphs as a runner of rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.sequences import SamplingParams
from app.core.types import Row
from scripts.export.seq2seq.runner import WriterRunner, open_engine_of
from tests.support.tiny_continuer import CPU, EOS, write_continuer
from tests.support.tiny_decoder import greedily, source_of, write_model

GREEDY = SamplingParams(max_new_tokens=5, eos_token_ids=(EOS,))


def test_rows_are_written_with_and_without_an_encoder(tmp_path: Path) -> None:
    manifest = write_model(tmp_path / "a")
    source = source_of("w5 w6")
    runner = WriterRunner(tmp_path / "a" / "model.onnx", tmp_path / "a" / "decoder.onnx", manifest, CPU, GREEDY)
    with_start = SamplingParams(max_new_tokens=5, eos_token_ids=(EOS,), decoder_input_ids=(1,))
    engine = open_engine_of(tmp_path / "a" / "model.onnx", tmp_path / "a" / "decoder.onnx", manifest, CPU, 2, num_threads=1)
    assert engine.num_threads == 1
    (output,) = engine.generate([source], with_start)
    assert output["token_ids"].tolist() == greedily(source, 5) == runner.run_rows([source])[0]["token_ids"].tolist()
    file = tmp_path / "b" / "model.onnx"
    manifest = write_continuer(tmp_path / "b")
    row = Row([5, 6], [0, 0])
    (first,) = WriterRunner(file, file, manifest, CPU, GREEDY).run_rows([row])
    (second,) = open_engine_of(file, file, manifest, CPU, 2).generate([row], GREEDY)
    assert first["token_ids"].tolist() == second["token_ids"].tolist() != []


def test_a_model_that_does_not_write_is_refused(tmp_path: Path) -> None:
    manifest = write_model(tmp_path).model_copy(update={"decoder": None})
    with pytest.raises(TypeError, match="does not write"):
        open_engine_of(tmp_path / "model.onnx", tmp_path / "decoder.onnx", manifest, CPU, 2)

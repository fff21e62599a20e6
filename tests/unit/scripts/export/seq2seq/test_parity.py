"""What may be published of a model that writes, and what may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.core.sequences import SamplingParams
from app.core.types import RowOutput
from scripts.export.optimize import quantize_weights
from scripts.export.seq2seq.graphs import export_writer
from scripts.export.seq2seq.parity import NUM_GENERATED, WriterReference, _is_near_tie, verify_exported, verify_stored
from scripts.export.seq2seq.steps import Graphs, WrittenRow, compare_steps, open_engine
from scripts.export.verify import ParityFailed
from tests.support.tiny_causal import model_of, rows_of
from tests.support.tiny_writer import MAX_POSITIONS, TinyWriter, publish_tiny_writer, trained

SAMPLING = SamplingParams(max_new_tokens=20, decoder_input_ids=(1,), eos_token_ids=(1,))


@pytest.fixture
def tiny(tmp_path: Path) -> TinyWriter:
    return publish_tiny_writer(tmp_path, "bart")


@pytest.fixture
def graphs(tiny: TinyWriter) -> Graphs:
    manifest = tiny.manifest
    assert manifest.decoder is not None
    return Graphs(tiny.folder / "model.onnx", manifest.graph, tiny.folder / "decoder.onnx", manifest.decoder)


@pytest.fixture
def reference(tiny: TinyWriter) -> WriterReference:
    model, _ = trained("bart")
    reference = WriterReference(model, None)
    for row in tiny.rows:
        reference.write(row, SAMPLING, (1,))
    return reference


def with_noise(graphs: Graphs, scale: float) -> Graphs:
    """The decoder with its head disturbed."""
    model = onnx.load(graphs.decoder_file)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "embedding")
    noise = scale * np.random.default_rng(0).standard_normal(tensor.dims).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + noise, tensor.name))
    file = graphs.decoder_file.with_name("noisy.onnx")
    onnx.save(model, file)
    return replace(graphs, decoder_file=file)


def written_by(graphs: Graphs, tiny: TinyWriter) -> list[RowOutput]:
    return open_engine(graphs, MAX_POSITIONS).generate(tiny.rows, SAMPLING)


def test_the_reference_is_what_transformers_writes(reference: WriterReference, tiny: TinyWriter) -> None:
    assert [list(written.tokens) for written in reference.written] == list(tiny.written)
    assert [max(best, key=lambda token: best[token]) for best in reference.written[1].best] == list(tiny.written[1])


def test_the_services_engine_passes_and_a_disturbed_decoder_fails(
    reference: WriterReference, graphs: Graphs, tiny: TinyWriter
) -> None:
    parity = verify_exported(reference, graphs, written_by(graphs, tiny))
    assert (parity.rows, parity.agreement, parity.passed) == (len(tiny.rows), 1.0, True)
    assert 0 < parity.max_abs_error < 1e-4
    noisy = with_noise(graphs, 0.5)
    with pytest.raises(ParityFailed, match=r"do not write what the torch model writes: \d of 6 texts differ \(text 1 is"):
        verify_exported(reference, noisy, written_by(noisy, tiny))


def test_another_token_fails_though_every_logit_is_right(reference: WriterReference, graphs: Graphs, tiny: TinyWriter) -> None:
    first, *others = written_by(graphs, tiny)
    changed = {**first, "token_ids": np.append(first["token_ids"][:-1], [3, 1])}
    with pytest.raises(ParityFailed, match=r"1 of 6 texts differ \(text 1 is the first\), largest logit error \d"):
        verify_exported(reference, graphs, [changed, *others])


def test_an_error_of_a_logit_fails_though_every_token_is_the_same(
    reference: WriterReference, graphs: Graphs, tiny: TinyWriter
) -> None:
    noisy = with_noise(graphs, 2e-3)
    outputs = written_by(graphs, tiny)
    with pytest.raises(ParityFailed, match=r"0 of 6 texts differ, largest logit error 0\.0"):
        verify_exported(reference, noisy, outputs)


def test_smaller_weights_are_judged_by_each_step(reference: WriterReference, graphs: Graphs) -> None:
    parity = verify_stored(reference, graphs)
    assert parity.rows == sum(len(written.tokens) for written in reference.written)
    assert parity.agreement == 1.0
    worse = with_noise(graphs, 0.5)
    assert compare_steps(reference, worse).agreement < 0.9
    stored = replace(worse, decoder=graphs.decoder.model_copy(update={"storage": "fp16"}))
    with pytest.raises(ParityFailed, match="the graphs with quantized weights do not write") as failure:
        verify_stored(reference, replace(stored, decoder=graphs.decoder.model_copy(update={"storage": "int8"})))
    assert failure.value.larger_storage == "fp16"


@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_graphs_are_stored_small_and_read_back(
    storage: Literal["fp16", "int8"], reference: WriterReference, graphs: Graphs, tmp_path: Path
) -> None:
    encoder, decoder = tmp_path / "model.onnx", tmp_path / "decoder.onnx"
    graph = quantize_weights(graphs.encoder_file, encoder, graphs.graph, storage, min_weights=100)
    quantize_weights(graphs.decoder_file, decoder, graphs.graph, storage, min_weights=100)
    stored = Graphs(encoder, graph, decoder, graphs.decoder.model_copy(update={"storage": storage}))
    names = {tensor.name for tensor in onnx.load(decoder).graph.initializer}
    assert f"embedding_{storage}" in names, "the table that is also the head is stored once, and small"
    parity = compare_steps(reference, stored)
    assert parity.agreement > 0.9
    assert 0 < parity.max_abs_error < 1


def test_a_decoder_may_start_with_another_token_than_the_checkpoint_says(graphs: Graphs, tiny: TinyWriter) -> None:
    model, _ = trained("bart")
    sampling = SamplingParams(max_new_tokens=5, decoder_input_ids=(7,), eos_token_ids=(1,))
    reference = WriterReference(model, None)
    written = [list(reference.write(row, sampling, (1,)).tokens) for row in tiny.rows]
    outputs = open_engine(graphs, MAX_POSITIONS).generate(tiny.rows, sampling)
    assert [list(output["token_ids"]) for output in outputs] == written
    assert written != [list(tokens)[:5] for tokens in tiny.written]


def test_a_near_tie_is_where_transformers_itself_hardly_preferred_its_token() -> None:
    written = WrittenRow(None, [5, 6, 1], [{5: 2.0}, {6: 1.0, 7: 0.9995, 8: 0.9}, {1: 3.0}])  # type: ignore[arg-type]
    assert _is_near_tie(written, [5, 7, 9, 1])
    assert not _is_near_tie(written, [5, 8, 1])
    assert not _is_near_tie(written, [5, 9, 1]), "what is not among the best is no tie"
    assert not _is_near_tie(written, [5, 6]), "nor is what ends early"


# --- texts that are continued follow what the engine wrote

CONTINUED = SamplingParams(max_new_tokens=10, eos_token_ids=(1,))


@pytest.fixture
def causal(tmp_path: Path) -> Graphs:
    exported = export_writer(model_of("llama"), [], tmp_path, eos_token_ids=(1,))
    return Graphs(exported.encoder_file, exported.graph, exported.decoder_file, exported.decoder)


def followed(outputs: list[RowOutput], **generation: float) -> WriterReference:
    model = model_of("llama")
    model.generation_config.update(**generation)
    reference = WriterReference(model, None)
    reference.write_each(CAUSAL_ROWS, CONTINUED, (1,), outputs)
    return reference


CAUSAL_ROWS = rows_of([2, 3, 4, 5, 7, 9, 12, 30])


def test_one_pass_over_what_the_engine_wrote_finds_what_generate_writes(causal: Graphs) -> None:
    outputs = open_engine(causal, MAX_POSITIONS).generate(CAUSAL_ROWS, CONTINUED)
    reference, alone = followed(outputs), WriterReference(model_of("llama"), None)
    for row in CAUSAL_ROWS:
        alone.write(row, CONTINUED, (1,))
    assert [list(row.tokens) for row in reference.written] == [list(row.tokens) for row in alone.written]
    for row, other in zip(reference.written, alone.written, strict=True):
        for best, generated in zip(row.best, other.best, strict=True):
            assert best == pytest.approx(generated, abs=1e-4)
    parity = verify_exported(reference, causal, outputs)
    assert (parity.rows, parity.agreement, parity.passed) == (len(CAUSAL_ROWS), 1.0, True)
    assert len(reference.computed) == len(CAUSAL_ROWS)


def test_a_token_that_transformers_would_not_write_fails_though_it_is_followed(causal: Graphs) -> None:
    outputs = open_engine(causal, MAX_POSITIONS).generate(CAUSAL_ROWS, CONTINUED)
    place = 1  # which is not written by `generate`
    tokens = outputs[place]["token_ids"].copy()
    tokens[4] = 60 if tokens[4] != 60 else 61
    changed = [*outputs[:place], {**outputs[place], "token_ids": tokens}, *outputs[place + 1 :]]
    reference = followed(changed)
    with pytest.raises(ParityFailed, match=r"1 of 8 texts differ \(text 2 is the first\)"):
        verify_exported(reference, causal, changed)


def test_a_text_that_ends_too_soon_or_too_late_is_not_followed(causal: Graphs) -> None:
    outputs = open_engine(causal, MAX_POSITIONS).generate(CAUSAL_ROWS, CONTINUED)
    for place in range(len(outputs)):
        cut = [*outputs[:place], {**outputs[place], "token_ids": outputs[place]["token_ids"][:-1]}, *outputs[place + 1 :]]
        reference = followed(cut)
        with pytest.raises(ParityFailed, match="1 of 8 texts differ"):
            verify_exported(reference, causal, cut)


def test_scores_that_transformers_changes_are_those_of_generate(causal: Graphs) -> None:
    outputs = open_engine(causal, MAX_POSITIONS).generate(CAUSAL_ROWS, CONTINUED)
    assert len(followed(outputs, repetition_penalty=1.3).computed) == 0
    assert len(followed(outputs).computed) == len(CAUSAL_ROWS) - NUM_GENERATED

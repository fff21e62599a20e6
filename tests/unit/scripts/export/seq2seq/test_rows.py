"""A step of whole numbers with a scale for each row: exact sums, nobody beside it felt, and another form where it fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.core.manifest import Parity
from app.core.sequences import SamplingParams
from scripts.export.optimize import quantize_weights
from scripts.export.seq2seq import int8
from scripts.export.seq2seq.greedy import GreedyWriter
from scripts.export.seq2seq.int8 import Int8Comparison, check_companions, compare_forms
from scripts.export.seq2seq.rows import MAX_INPUT, MAX_WEIGHT, write_int8_rows
from scripts.export.seq2seq.steps import GraphReference, Graphs, compare_steps
from scripts.export.verify import ParityFailed
from tests.support.tiny_writer import EOS, MAX_POSITIONS, PAD, TinyWriter, publish_tiny_writer

GREEDY = SamplingParams(max_new_tokens=20, decoder_input_ids=(PAD,), eos_token_ids=(EOS,))


@pytest.fixture(scope="module", params=["t5", "bart"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyWriter:
    return publish_tiny_writer(tmp_path_factory.mktemp("models"), request.param)


def in_rows(tiny: TinyWriter, folder: Path, storage: Any) -> tuple[Graphs, Graphs]:
    """The published graphs, and with the form of a step that is stored so."""
    manifest, file = tiny.manifest, folder / "decoder.onnx"
    assert manifest.decoder is not None
    entry = quantize_weights(tiny.folder / "decoder.onnx", file, manifest.graph, storage, 100)
    before = Graphs(
        tiny.folder / "model.onnx", manifest.graph, file, manifest.decoder.model_copy(update={"storage": entry.storage})
    )
    form = folder / "decoder.int8.onnx"
    assert write_int8_rows(file, form, 100)
    return before, replace(before, decoder_file=form, decoder=manifest.decoder.model_copy(update={"storage": "fp32"}))


@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_a_step_stays_close_and_feels_nobody_beside_it(tiny: TinyWriter, tmp_path: Path, storage: str) -> None:
    before, form = in_rows(tiny, tmp_path, storage)
    kinds = [node.op_type for node in onnx.load(form.decoder_file).graph.node]
    assert "Gemm" not in kinds
    assert kinds.count("QuantizeLinear") <= kinds.count("MatMulIntegerToFloat")
    sampling = replace(GREEDY, decoder_input_ids=(before.decoder.start_token_id,))
    parity = compare_steps(GraphReference(before, MAX_POSITIONS, tiny.rows, sampling), form)
    assert parity.agreement > 0.9
    assert 0 < parity.max_abs_error < 1.0
    writer = GreedyWriter(form.encoder_file, form.graph, form.decoder_file, form.decoder)
    alone = [writer.write([row], 20)[0] for row in tiny.rows]
    assert writer.write([*tiny.rows[3:], *tiny.rows], 20) == [*alone[3:], *alone]
    check_companions(form, MAX_POSITIONS, tiny.rows, sampling)


def product(folder: Path, weights: np.ndarray, bias: np.ndarray) -> Any:
    """A session of the form of one product."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "y", transB=1)], "step",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", weights.shape[1]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", weights.shape[0]])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "decoder.onnx")
    assert write_int8_rows(folder / "decoder.onnx", folder / "form.onnx", 1)
    return onnxruntime.InferenceSession(folder / "form.onnx", providers=["CPUExecutionProvider"])


def test_the_largest_sums_come_out_right_and_rows_of_nothing_too(tmp_path: Path) -> None:
    """On a processor that adds two products in 16 bits they would end at 32,767."""
    weights, bias = np.full((32, 256), 2.0, np.float32), np.full(32, 0.5, np.float32)
    weights[1::2] *= -1
    rows = np.array([np.full(256, 3.0), np.full(256, -3.0), np.zeros(256)], np.float32)
    (got,) = product(tmp_path, weights, bias).run(None, {"x": rows})
    np.testing.assert_allclose(got, rows @ weights.T + bias, rtol=1e-5)
    assert 2 * 255 * MAX_WEIGHT < 2**15
    assert MAX_INPUT + 128 == 255


def test_a_row_is_the_same_to_the_last_bit_however_many_others_there_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    session = product(tmp_path, rng.normal(size=(96, 128)).astype(np.float32), np.zeros(96, np.float32))
    rows = (rng.normal(size=(16, 128)) * rng.uniform(0.01, 100, size=(16, 1))).astype(np.float32)
    (together,) = session.run(None, {"x": rows})
    for number, row in enumerate(rows):
        assert (session.run(None, {"x": row[None]})[0][0] == together[number]).all()


# --- which form it is


def compared(monkeypatch: pytest.MonkeyPatch, *outcomes: Any) -> tuple[Any, list[str], str]:
    """What comes of forms that are measured so: the result, what was told, and the name of the form that lies there."""
    told: list[str] = []
    written: list[str] = []
    coming = iter(outcomes)

    def measure(*_: Any) -> Any:
        outcome = next(coming)
        if isinstance(outcome, Exception):
            raise outcome
        return Int8Comparison(Parity(rows=9, agreement=1.0, max_abs_error=0.0, passed=outcome))

    def writer(name: str, exists: bool = True) -> Any:
        return lambda *_: exists and not written.append(name)

    monkeypatch.setattr(int8, "measure_int8", measure)
    graphs: Any = Graphs(Path("a"), None, Path("b"), None)  # type: ignore[arg-type]
    forms = (writer("rows"), writer("none", exists=False), writer("blocks"))
    try:
        result: Any = compare_forms(forms, graphs, Path("c"), 9, None, lambda _, text: told.append(text))  # type: ignore[arg-type]
    except ParityFailed as failure:
        result = failure
    return result, told, written[-1]


def test_the_first_form_that_passes_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    result, told, form = compared(monkeypatch, True)
    assert (result.parity.passed, told, form) == (True, [], "rows")


@pytest.mark.parametrize("first", [False, ParityFailed("beside others")])
def test_where_it_fails_the_other_one_is(monkeypatch: pytest.MonkeyPatch, first: Any) -> None:
    result, told, form = compared(monkeypatch, first, True)
    assert (result.parity.passed, form) == (True, "blocks")
    assert "it gets one for each block" in told[0]


def test_where_all_fail_the_last_one_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compared(monkeypatch, False, False)[0].parity.passed is False
    assert isinstance(compared(monkeypatch, False, ParityFailed("beside others"))[0], ParityFailed)
    nothing: Any = compare_forms((lambda *_: False,), Graphs(Path("a"), None, Path("b"), None), Path("c"), 9, None, print)  # type: ignore[arg-type]
    assert nothing is None

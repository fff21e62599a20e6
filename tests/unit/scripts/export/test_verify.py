"""The parity gate: what does not answer as torch did is not published, and the message says by how much and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.core.errors import EngineFailed, ProviderUnavailable
from app.core.types import Row, RowOutput
from app.runtime.providers import Provider
from scripts.export import verify
from scripts.export.optimize import quantize_weights
from scripts.export.verify import (
    BF16,
    EXPORTED,
    QUANTIZED,
    ParityFailed,
    Reference,
    check_neighbours,
    check_other_neighbours,
)

OPTIONS = {"labels": ["a", "b", "c"], "problem_type": "single_label_classification"}
COUNT = 40


def altered(exported: Any, path: Path, change: Any) -> Path:
    """A copy of the graph whose classifier was changed."""
    model = onnx.load(exported.file)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "model.classifier.bias")
    weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights).copy()), weights.name))
    onnx.save(model, path)
    return path


def test_a_faithful_graph_passes(reference: Reference, export: Any) -> None:
    exported = export("Bert")
    parity, predictions = reference.verify(exported.file, exported.graph, EXPORTED)
    assert (parity.rows, parity.agreement, parity.passed) == (COUNT, 1.0, True)
    assert 0 < parity.max_abs_error < 1e-4
    assert len(predictions.answers) == COUNT


def test_a_faithful_graph_with_quantized_weights_passes_its_own_gate(reference: Reference, export: Any, tmp_path: Path) -> None:
    exported = export("Bert")
    graph = quantize_weights(exported.file, tmp_path / "quantized.onnx", exported.graph, min_weights=1)
    parity, _ = reference.verify(tmp_path / "quantized.onnx", graph, QUANTIZED)
    assert parity.passed
    assert parity.max_abs_error > EXPORTED.max_abs_error


def test_an_altered_weight_fails_with_numbers_and_the_places(reference: Reference, export: Any, tmp_path: Path) -> None:
    exported = export("Bert")
    file = altered(exported, tmp_path / "altered.onnx", lambda bias: bias + np.array([9, 0, 0], np.float32))
    with pytest.raises(ParityFailed, match=r"agreement 0\.\d+, \d+ of 40 .*films\.csv:\d+.*largest logit error 9") as raised:
        reference.verify(file, exported.graph, EXPORTED)
    assert not any(example.item.text in raised.value.detail for example in reference.examples)


def test_an_error_too_small_to_change_a_decision_fails_too(reference: Reference, export: Any, tmp_path: Path) -> None:
    exported = export("Bert")
    file = altered(exported, tmp_path / "altered.onnx", lambda bias: bias + np.float32(0.002))
    with pytest.raises(ParityFailed, match=r"agreement 1\.0000.*largest logit error 0\.002"):
        reference.verify(file, exported.graph, EXPORTED)
    assert reference.verify(file, exported.graph, QUANTIZED)[0].passed


def test_a_failing_graph_with_quantized_weights_says_what_can_be_done(
    reference: Reference, export: Any, tmp_path: Path
) -> None:
    exported = export("Bert")
    file = altered(exported, tmp_path / "altered.onnx", lambda bias: bias + np.array([9, 0, 0], np.float32))
    for storage, larger in (("int8", "fp16"), ("fp16", "fp32"), ("fp32", "")):
        with pytest.raises(ParityFailed, match=r"at most 1 changed prediction of 40 rows") as raised:
            reference.verify(file, exported.graph.model_copy(update={"storage": storage}), QUANTIZED)
        assert raised.value.larger_storage == larger


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_fails(value: float, reference: Reference, export: Any, tmp_path: Path) -> None:
    exported = export("Bert")
    file = altered(exported, tmp_path / "altered.onnx", lambda bias: bias + np.float32(value))
    with pytest.raises(ParityFailed):
        reference.verify(file, exported.graph, QUANTIZED)


def test_a_reference_that_is_not_finite_fails_as_well(reference: Reference) -> None:
    outputs = [[{"logits": np.full(3, np.nan, np.float32)}], *reference.predictions.outputs[1:]]
    broken = replace(reference, predictions=replace(reference.predictions, outputs=outputs))
    found = broken.compare(reference.predictions, QUANTIZED)
    assert (found.num_not_finite, found.parity.passed, found.disagreeing) == (1, False, ["films.csv:2"])
    assert np.isfinite(found.parity.max_abs_error)


class Leaky:
    """A runner whose rows feel how many they are."""

    def __init__(self, leak: float) -> None:
        self.leak = leak

    def run_together(self, rows: Sequence[Row]) -> list[RowOutput]:
        return [{"logits": np.array([row.num_tokens + self.leak * len(rows)], np.float32)} for row in rows]


def test_rows_that_feel_their_neighbours_fail(rows: list[Row]) -> None:
    check_neighbours(Leaky(0.0), rows)
    with pytest.raises(ParityFailed, match="8 of 8 rows feel their neighbours"):
        check_neighbours(Leaky(0.01), rows)
    with pytest.raises(ParityFailed):
        check_neighbours(Leaky(np.nan), rows)


class LargeLogits:
    """A runner whose logits are large, and move with the number of rows as sums in another order do."""

    def __init__(self, moved: float) -> None:
        self._moved = moved

    def run_together(self, rows: Sequence[Row]) -> list[RowOutput]:
        return [{"logits": np.array([40.0, 40.0 + self._moved * len(rows)], np.float32)} for _ in rows]


def test_large_logits_may_move_by_as_many_parts_of_themselves(rows: list[Row]) -> None:
    check_neighbours(LargeLogits(3e-4), rows)
    with pytest.raises(ParityFailed, match=r"feel their neighbours: a logit moved by 0\.07, allowed are 0\.004"):
        check_neighbours(LargeLogits(1e-2), rows)


def test_a_packed_graph_without_its_mask_is_caught(
    reference: Reference, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scripts.export import layouts
    from scripts.export.export import export_graph

    monkeypatch.setattr(layouts, "MASKED", 0.0)
    file = tmp_path / "unmasked.onnx"
    graph = export_graph(tiny_model("Bert"), "row", file)
    with pytest.raises(ParityFailed):
        reference.verify(file, graph, QUANTIZED)


def bf16_on_the_cpu(wish: str) -> Provider:
    return Provider("cpu", "bf16", "for a test") if wish == "openvino" else Provider("cpu", "fp32", "for a test")


def test_bf16_is_measured_where_the_machine_has_it(reference: Reference, export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "choose_provider", bf16_on_the_cpu)
    exported = export("Bert")
    found = reference.measure_bf16(exported.file, exported.graph)
    assert found is not None
    assert found.parity.passed


def test_a_failing_bf16_is_recorded_and_stops_nothing(
    reference: Reference, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "choose_provider", bf16_on_the_cpu)
    exported = export("Bert")
    wrong = altered(exported, tmp_path / "wrong.onnx", lambda bias: bias + np.array([9, 0, 0], np.float32))
    nan = altered(exported, tmp_path / "nan.onnx", lambda bias: bias + np.float32(np.nan))
    for file in (wrong, nan):
        found = reference.measure_bf16(file, exported.graph)
        assert found is not None
        assert not found.parity.passed
        assert found.parity.agreement < BF16.agreement


def test_where_the_machine_lacks_bf16_it_is_measured_by_rounding(
    reference: Reference, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(wish: str) -> Provider:
        if wish == "openvino":
            raise ProviderUnavailable("not here")
        return Provider("cpu", "fp32", "for a test")

    exported = export("Bert")
    monkeypatch.setattr(verify, "has_openvino_bf16", lambda: False)
    monkeypatch.setattr(verify, "BF16_ROWS", 3)
    for choose in (missing, lambda wish: Provider("cpu", "fp32", "no bf16 in hardware")):
        monkeypatch.setattr(verify, "choose_provider", choose)
        found = reference.measure_bf16(exported.file, exported.graph)
        assert found is not None
        assert (found.parity.rows, found.parity.passed) == (3, True)
        assert 1e-5 < found.parity.max_abs_error < 0.1  # fp32 would be nearer
    monkeypatch.setattr(verify, "BF16_ROWS", 1000)
    wrong = altered(exported, tmp_path / "wrong.onnx", lambda bias: bias + np.array([9, 0, 0], np.float32))
    found = reference.measure_bf16(wrong, exported.graph)
    assert found is not None
    assert (found.parity.rows, found.parity.passed) == (len(reference.examples), False)


def test_bf16_is_measured_by_openvino_itself_where_the_plug_in_leaves_the_processor_out(
    reference: Reference, export: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(wish: str) -> Provider:
        raise ProviderUnavailable("not offered")

    pytest.importorskip("openvino", reason="the package openvino is not installed")
    if not verify.has_openvino_bf16():
        pytest.skip("this processor does not multiply bf16")
    monkeypatch.setattr(verify, "choose_provider", missing)
    exported = export("Bert")
    found = reference.measure_bf16(exported.file, exported.graph)
    assert found is not None
    assert found.parity.rows == len(reference.examples)
    assert 0 < found.parity.max_abs_error < 0.1


def test_a_plug_in_that_will_not_take_the_graph_stops_nothing(
    reference: Reference, export: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise ProviderUnavailable("OpenVINO cannot run it")

    monkeypatch.setattr(verify, "choose_provider", bf16_on_the_cpu)
    monkeypatch.setattr(verify, "EncoderEngine", refuse)
    exported = export("Bert")
    assert reference.measure_bf16(exported.file, exported.graph) is None


def test_an_engine_that_fails_is_a_failed_parity(reference: Reference, export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, rows: Sequence[Row]) -> list[RowOutput]:
        raise EngineFailed("out of memory")

    monkeypatch.setattr(verify.EncoderEngine, "run_rows", fail)
    exported = export("Bert")
    with pytest.raises(ParityFailed, match="out of memory"):
        reference.verify(exported.file, exported.graph, EXPORTED)


class Feeling:
    """Gives each row the mean of its own tokens, and a little of what the first of the other rows says."""

    def __init__(self, much: float) -> None:
        self._much = much

    def run_together(self, rows: Sequence[Row]) -> list[RowOutput]:
        own = [float(np.mean(row.input_ids)) for row in rows]
        others = [own[0] if number else own[-1] for number in range(len(rows))]
        return [{"logits": np.array([a + self._much * b], np.float32)} for a, b in zip(own, others, strict=True)]


@pytest.mark.parametrize("much", [0.01, 0.001])
def test_a_row_that_feels_what_its_neighbours_say_is_caught(rows: list[Row], much: float) -> None:
    check_other_neighbours(Feeling(0.0), rows)
    with pytest.raises(ParityFailed, match="feel what their neighbours say"):
        check_other_neighbours(Feeling(much), rows)

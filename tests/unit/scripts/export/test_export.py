"""A torch model becomes a graph that answers alike, in whatever company and shape its rows come."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from app.core.types import Row
from scripts.export.export import ExportFailed, export_graph
from scripts.export.positions import num_positions, position_offset
from scripts.export.torch_runner import TorchRunner

PACKED = ["Bert", "Roberta", "XLMRoberta", "Electra", "DistilBert", "Albert", "MPNet"]
PADDED = ["GPT2", "Bart"]
TOLERANCE = 5e-5
LARGEST_FP16 = 65_504


def assert_alike(ones: Any, others: Any) -> None:
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_allclose(one["logits"], other["logits"], atol=TOLERANCE)


@pytest.fixture
def ended_rows(rows: list[Row]) -> list[Row]:
    """Rows of one sequence; each ends with the one end token that it has."""
    return [Row([2 if token == 3 else token for token in row.input_ids[:-1]] + [3], [0] * row.num_tokens) for row in rows]


@pytest.mark.parametrize("family", PACKED)
def test_a_packed_graph_reproduces_torch(family: str, export: Any, rows: list[Row]) -> None:
    exported = export(family)
    assert exported.graph.layout == "packed"
    assert_alike(exported.session().run_rows(rows), TorchRunner(exported.model, exported.graph).run_rows(rows))


@pytest.mark.parametrize("family", PACKED)
def test_a_packed_row_does_not_feel_its_neighbours(family: str, export: Any, rows: list[Row]) -> None:
    session = export(family).session()
    alone = [session.run_rows([row])[0] for row in rows]
    assert_alike(session.run_rows(rows), alone)
    assert_alike(session.run_rows(rows[::-1])[::-1], alone)


@pytest.mark.parametrize("family", ["Bert", "DistilBert"])
def test_padding_lines_and_columns_give_no_nan(family: str, export: Any, rows: list[Row]) -> None:
    exported = export(family)
    tensors = {name: np.zeros((3, 16), np.int64) for name in exported.graph.inputs}
    tensors["gather"] = np.zeros(4, np.int64)
    session = onnxruntime.InferenceSession(exported.file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, tensors)
    assert logits.shape == (4, 3)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("family", PACKED)
def test_padding_that_stands_in_a_text_is_read_as_torch_reads_it(family: str, export: Any, rows: list[Row]) -> None:
    exported = export(family)
    pad = exported.graph.pad_token_id
    written = [replace(row, input_ids=[pad if i % 3 == 1 else one for i, one in enumerate(row.input_ids)]) for row in rows]
    assert_alike(exported.session().run_rows(written), TorchRunner(exported.model, exported.graph).run_rows(written))


@pytest.mark.parametrize(("family", "inputs"), [("Bert", True), ("Roberta", False), ("DistilBert", False)])
def test_token_types_are_an_input_only_where_the_model_has_them(family: str, inputs: bool, export: Any) -> None:
    assert ("token_type_ids" in export(family).graph.inputs) is inputs


def test_token_types_reach_the_model(export: Any, rows: list[Row]) -> None:
    session = export("Bert").session()
    plain = Row(rows[3].input_ids, [0] * rows[3].num_tokens)
    assert np.abs(session.run_rows([rows[3]])[0]["logits"] - session.run_rows([plain])[0]["logits"]).max() > 0.01


@pytest.mark.parametrize(("family", "offset"), [("Bert", 0), ("Electra", 0), ("DistilBert", 0), ("Roberta", 2), ("MPNet", 2)])
def test_positions_begin_where_the_model_begins_to_count(family: str, offset: int, export: Any) -> None:
    exported = export(family)
    assert exported.graph.position_offset == position_offset(exported.model) == offset
    assert num_positions(exported.model) == 64


@pytest.mark.parametrize("axis", ["token", "marker"])
def test_token_and_marker_outputs_reproduce_torch(axis: Any, export: Any, marked_rows: list[Row]) -> None:
    exported = export("Bert", "TokenClassification", axis)
    assert ("gather" in exported.graph.inputs) is (axis == "marker")
    assert_alike(exported.session().run_rows(marked_rows), TorchRunner(exported.model, exported.graph).run_rows(marked_rows))


def test_question_answering_is_one_output_per_token(export: Any, rows: list[Row]) -> None:
    exported = export("DistilBert", "QuestionAnswering", "token")
    assert_alike(exported.session().run_rows(rows), TorchRunner(exported.model, exported.graph).run_rows(rows))


@pytest.mark.parametrize("family", PADDED)
def test_an_architecture_that_cannot_be_packed_is_exported_padded_and_says_so(
    family: str, export: Any, ended_rows: list[Row]
) -> None:
    exported = export(family)
    assert exported.graph.layout == "padded"
    assert exported.graph.position_offset == 0
    assert_alike(exported.session().run_together(ended_rows), alone(exported, ended_rows))


@pytest.mark.parametrize(("head", "axis"), [("QuestionAnswering", "token"), ("TokenClassification", "marker")])
def test_padded_graphs_have_outputs_per_token_and_per_marker_too(
    head: str, axis: Any, export: Any, marked_rows: list[Row]
) -> None:
    exported = export("GPT2", head, axis)
    assert exported.graph.layout == "padded"
    assert ("gather" in exported.graph.inputs) is (axis == "marker")
    assert_alike(exported.session().run_together(marked_rows), alone(exported, marked_rows))


def test_an_encoder_decoder_reads_texts_and_pairs_in_one_tensor(export: Any, ended_rows: list[Row]) -> None:
    """transformers' own forward wants as many end tokens in each row of a batch; ours reads each row at its last."""
    exported = export("Bart")
    pair = Row([*ended_rows[1].input_ids, *ended_rows[2].input_ids], [0] * (5 + 17))
    mixed = [*ended_rows, pair]
    assert_alike(exported.session().run_together(mixed), alone(exported, mixed))


def alone(exported: Any, rows: list[Row]) -> list[Any]:
    """What transformers gives for each row by itself."""
    runner = TorchRunner(exported.model, exported.graph)
    return [runner.run_alone(row) for row in rows]


def test_relative_positions_are_not_packed(tiny_model: Any, tmp_path: Path) -> None:
    model = tiny_model("Bert", position_embedding_type="relative_key")
    assert export_graph(model, "row", tmp_path / "model.onnx").layout == "padded"


def test_whatever_stops_an_export_is_told_in_one_sentence(tiny_model: Any, tmp_path: Path) -> None:
    model = tiny_model("GPT2")
    type(model)._from_config = None  # as of a class that its library broke
    try:
        with pytest.raises(
            ExportFailed, match=r"^GPT2ForSequenceClassification \(gpt2\) cannot become an ONNX graph: "
        ) as raised:
            export_graph(model, "row", tmp_path / "model.onnx")
    finally:
        del type(model)._from_config
    assert "\n" not in raised.value.detail


@pytest.mark.parametrize("family", [*PACKED, *PADDED])
def test_the_graph_is_standard_onnx_with_dynamic_axes(family: str, export: Any) -> None:
    model = onnx.load(export(family).file)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)]
    assert all(dim.dim_param for one in model.graph.input for dim in one.type.tensor_type.shape.dim)


@pytest.mark.parametrize("family", PACKED)
def test_no_constant_overflows_in_half_precision(family: str, export: Any) -> None:
    graph = onnx.load(export(family).file).graph
    tensors = [*graph.initializer, *(one.t for node in graph.node for one in node.attribute if one.name == "value")]
    floats = [numpy_helper.to_array(one) for one in tensors if one.data_type == onnx.TensorProto.FLOAT]
    assert max(np.abs(one).max(initial=0) for one in floats) <= LARGEST_FP16


def test_exporting_is_quiet_and_leaves_the_model_as_it_was(
    tiny_model: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], rows: list[Row]
) -> None:
    model = tiny_model("Bert")
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    attention, config = model.config._attn_implementation, model.config.to_dict()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export_graph(model, "row", tmp_path / "model.onnx")
    assert caught == []
    assert capfd.readouterr() == ("", "")
    assert model.config._attn_implementation == attention
    assert model.config.to_dict() == config
    assert all(torch.equal(weights, before[name]) for name, weights in model.state_dict().items())

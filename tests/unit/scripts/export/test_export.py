"""Models of every family become graphs that answer as torch does; what cannot is refused in a sentence."""

from __future__ import annotations

import inspect
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

from app.core.manifest import Graph, Output
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.export import export as trial
from scripts.export.export import Exported, ExportFailed, export_graph, export_model, spread, try_export
from scripts.export.layouts import num_positions, position_offset
from scripts.export.torch_reference import TorchRunner
from scripts.tasks import training_task
from tests.support.tiny_model import tiny_tokenizer

PACKED = ["Bert", "Roberta", "XLMRoberta", "Electra", "DistilBert", "Albert", "MPNet"]
PADDED = ["GPT2", "Bart"]
TOLERANCE = 5e-5
LARGEST_FP16 = 65_504


def torch_runner(exported: Any) -> TorchRunner:
    return TorchRunner(exported.model, exported.graph.outputs[0].axis)


def assert_alike(ones: Any, others: Any) -> None:
    for output, other in zip(ones, others, strict=True):
        np.testing.assert_allclose(output["logits"], other["logits"], atol=TOLERANCE)


@pytest.fixture
def ended_rows(rows: list[Row]) -> list[Row]:
    """Rows of one sequence; each ends with the one end token that it has."""
    return [Row([2 if token == 3 else token for token in row.input_ids[:-1]] + [3], [0] * row.num_tokens) for row in rows]


@pytest.mark.parametrize("family", PACKED)
def test_a_packed_graph_reproduces_torch(family: str, export: Any, rows: list[Row]) -> None:
    exported = export(family)
    assert exported.graph.layout == "packed"
    assert_alike(exported.session().run_rows(rows), torch_runner(exported).run_rows(rows))


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
    written = [replace(row, input_ids=[pad if i % 3 == 1 else token for i, token in enumerate(row.input_ids)]) for row in rows]
    assert_alike(exported.session().run_rows(written), torch_runner(exported).run_rows(written))


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


@pytest.mark.parametrize("axis", ["token", "position"])
def test_token_and_position_outputs_reproduce_torch(axis: Any, export: Any, marked_rows: list[Row]) -> None:
    exported = export("Bert", "TokenClassification", axis)
    assert ("gather" in exported.graph.inputs) is (axis == "position")
    assert_alike(
        exported.session().run_rows(marked_rows),
        torch_runner(exported).run_rows(marked_rows),
    )


def test_question_answering_is_one_output_per_token(export: Any, rows: list[Row]) -> None:
    exported = export("DistilBert", "QuestionAnswering", "token")
    assert_alike(exported.session().run_rows(rows), torch_runner(exported).run_rows(rows))


@pytest.mark.parametrize("family", PADDED)
def test_an_architecture_that_cannot_be_packed_is_exported_padded_and_says_so(
    family: str, export: Any, ended_rows: list[Row]
) -> None:
    exported = export(family)
    assert exported.graph.layout == "padded"
    assert exported.graph.position_offset == 0
    assert_alike(exported.session().run_together(ended_rows), alone(exported, ended_rows))


@pytest.mark.parametrize(("head", "axis"), [("QuestionAnswering", "token"), ("TokenClassification", "position")])
def test_padded_graphs_have_outputs_per_token_and_per_position_too(
    head: str, axis: Any, export: Any, marked_rows: list[Row]
) -> None:
    exported = export("GPT2", head, axis)
    assert exported.graph.layout == "padded"
    assert ("gather" in exported.graph.inputs) is (axis == "position")
    assert_alike(exported.session().run_together(marked_rows), alone(exported, marked_rows))


def test_an_encoder_decoder_reads_texts_and_pairs_in_one_tensor(export: Any, ended_rows: list[Row]) -> None:
    """transformers' own forward wants as many end tokens in each row of a batch; ours reads each row at its last."""
    exported = export("Bart")
    pair = Row([*ended_rows[1].input_ids, *ended_rows[2].input_ids], [0] * (5 + 17))
    mixed = [*ended_rows, pair]
    assert_alike(exported.session().run_together(mixed), alone(exported, mixed))


def alone(exported: Any, rows: list[Row]) -> list[Any]:
    """What transformers gives for each row by itself."""
    runner = torch_runner(exported)
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
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert all(dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim)


@pytest.mark.parametrize("family", PACKED)
def test_no_constant_overflows_in_half_precision(family: str, export: Any) -> None:
    graph = onnx.load(export(family).file).graph
    tensors = [
        *graph.initializer,
        *(attribute.t for node in graph.node for attribute in node.attribute if attribute.name == "value"),
    ]
    floats = [numpy_helper.to_array(tensor) for tensor in tensors if tensor.data_type == onnx.TensorProto.FLOAT]
    assert max(np.abs(tensor).max(initial=0) for tensor in floats) <= LARGEST_FP16


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


def test_a_model_is_packed_where_rows_stay_apart(tiny_model: Any, rows: list[Row], tmp_path: Path) -> None:
    assert export_model(tiny_model("Bert"), "row", rows, tmp_path).graph.layout == "packed"


def test_a_model_whose_packed_form_leaks_is_padded(
    tiny_model: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.export.layouts.MASKED", 0.0)
    assert export_model(tiny_model("Bert"), "row", rows, tmp_path).graph.layout == "padded"


@pytest.mark.parametrize("axis", ["row", "token"])
def test_one_row_is_enough_to_export_a_padded_graph_for_any_number_of_them(
    axis: Any, tiny_model: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.export.export.is_packable", lambda model: False)
    model = tiny_model("Bert", "QuestionAnswering" if axis == "token" else "SequenceClassification")
    exported = export_model(model, axis, rows[:1], tmp_path)
    expected = [TorchRunner(model, exported.graph.outputs[0].axis).run_alone(row)["logits"] for row in rows]
    found = EncoderEngine(exported.file, exported.graph, choose_provider("cpu")).run_together(rows)
    for before, after in zip(expected, found, strict=True):
        np.testing.assert_allclose(after["logits"], before, atol=1e-4)


def test_a_model_that_reads_a_text_at_its_end_is_padded_on_the_left(tiny_model: Any, rows: list[Row], tmp_path: Path) -> None:
    model = tiny_model("XLNet")
    exported = export_model(model, "row", rows, tmp_path)
    assert (exported.graph.layout, exported.graph.padding_side) == ("padded", "left")
    runner = TorchRunner(model, exported.graph.outputs[0].axis)  # knows the side, too
    for row, output in zip(rows, runner.run_together(rows), strict=True):
        np.testing.assert_allclose(output["logits"], runner.run_alone(row)["logits"], atol=1e-4)


def test_a_decoder_without_a_padding_token_is_padded_with_its_end_token(
    tiny_model: Any, rows: list[Row], tmp_path: Path
) -> None:
    texts = [Row(row.input_ids[:-1] or [4], row.token_type_ids[:-1] or [0]) for row in rows]
    exported = export_model(tiny_model("GPT2", pad_token_id=None), "row", texts, tmp_path)
    assert exported.graph.pad_token_id == 3


def test_a_model_whose_answers_depend_on_padding_is_refused_with_the_reason(
    tiny_model: Any, rows: list[Row], tmp_path: Path
) -> None:
    with pytest.raises(ExportFailed) as raised:
        export_model(tiny_model("ConvBert"), "row", rows, tmp_path)
    said = raised.value.detail
    assert said.startswith("ConvBertForSequenceClassification (convbert) cannot be served: its answer to a text depends on the")
    assert "padding moved a logit by" in said
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_transformers_itself_cannot_run_is_refused_in_one_sentence(
    tiny_model: Any, rows: list[Row], tmp_path: Path
) -> None:
    model = tiny_model("Bert")
    model.bert.embeddings.word_embeddings = torch.nn.Embedding(5, 16)
    with pytest.raises(
        ExportFailed, match=r"^BertFor\w+ \(bert\) cannot be served: transformers itself stops at .*index out of"
    ):
        export_model(model, "row", rows, tmp_path)


def test_a_graph_that_answers_otherwise_is_refused(
    tiny_model: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trial._torch_outputs

    def shifted(*arguments: Any) -> Any:
        outputs, side = expected(*arguments)
        return [{"logits": output["logits"] + np.float32(0.01)} for output in outputs], side

    monkeypatch.setattr(trial, "_torch_outputs", shifted)
    with pytest.raises(ExportFailed, match="answers otherwise than transformers"):
        export_model(tiny_model("Bert"), "row", rows, tmp_path)


def test_rows_are_drawn_from_short_to_long_and_of_both_kinds() -> None:
    singles = [Row([2] * length, [0] * length) for length in range(1, 40)]
    pairs = [Row([2] * length, [0] * (length - 1) + [1]) for length in range(2, 30)]
    drawn = spread([*pairs, *singles])
    assert [row.num_tokens for row in drawn] == [1, 11, 20, 29, 39, 2, 9, 16, 22, 29]
    assert [row.num_tokens for row in spread(singles[:3])] == [1, 2, 3]


def test_a_trial_leaves_a_model_in_training_as_it_was(tiny_model: Any, rows: list[Row], tmp_path: Path) -> None:
    model = tiny_model("Bert").train()
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    export_model(model, "row", rows, tmp_path)
    assert model.training
    assert all(torch.equal(weights, before[name]) for name, weights in model.state_dict().items())


def test_the_same_model_is_tried_once_and_another_weight_makes_it_another(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph(
        file="a.onnx", layout="packed", inputs=("input_ids",), outputs=(Output(name="logits", axis="row"),), storage="fp32"
    )
    tried: list[Any] = []

    def exporting(model: Any, axis: str, rows: list[Row], folder: Path) -> Exported:
        tried.append(model)
        model.config.pad_token_id = 7
        torch.rand(5)
        return Exported(folder / "a.onnx", graph)

    def try_out(model: Any) -> float:
        torch.manual_seed(4)
        found = try_export(model, training_task("text-classification"), tiny_tokenizer(), {"labels": ["a", "b", "c"]})
        assert (found.graph, model.config.pad_token_id) == (graph, 7)
        return float(torch.rand(1))

    monkeypatch.setattr(trial, "export_model", exporting)
    monkeypatch.setattr(trial, "_TRIED", {})
    first, same, other, wider = tiny_model("GPT2"), tiny_model("GPT2"), tiny_model("GPT2"), tiny_model("GPT2", num_labels=4)
    with torch.no_grad():
        other.transformer.h[1].mlp.c_fc.weight[3, 2] += 1e-6
    assert len({try_out(model) for model in (first, same, other, wider)}) == 1
    assert tried == [first, other, wider]


def test_a_model_that_makes_its_own_token_types_is_given_none(tiny_model: Any, tmp_path: Path) -> None:
    """BigBird's head for questions tells question and context apart by the first separator, where it is given none."""
    model = tiny_model("BigBird", "QuestionAnswering")
    pairs = [[2, *range(4, 4 + n), 3, *([5, 6, 7] * n), 3] for n in (1, 2, 5, 9)]
    rows = [Row(ids, [0] * len(ids)) for ids in pairs]
    exported = export_model(model, "token", rows, tmp_path)
    assert "token_type_ids" not in exported.graph.inputs
    session = EncoderEngine(exported.file, exported.graph, choose_provider("cpu"), 1)
    for row, output in zip(rows, session.run_rows(rows), strict=True):
        answered = model(input_ids=torch.tensor([row.input_ids]))
        expected = torch.stack([answered.start_logits, answered.end_logits], -1)[0].detach().numpy()
        np.testing.assert_allclose(output["logits"], expected, atol=1e-4)


def test_token_types_that_say_something_else_than_none_are_noticed(tiny_model: Any, rows: list[Row], tmp_path: Path) -> None:
    model = tiny_model("Bert")
    forward = model.forward

    def guessing(token_type_ids: Any = None, **fed: Any) -> Any:
        guessed = torch.ones_like(fed["input_ids"]) if token_type_ids is None else token_type_ids
        return forward(token_type_ids=guessed, **fed)

    model.forward = guessing
    model.forward.__signature__ = inspect.signature(forward)
    untyped = [Row(row.input_ids, [0] * row.num_tokens) for row in rows]
    with pytest.raises(ExportFailed):
        export_model(model, "row", untyped, tmp_path)


def test_an_operator_that_fails_in_onnx_runtime_is_named_and_nothing_else_is_printed(
    tiny_model: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A graph that is made for positions up to five fails in its Gather for longer rows."""
    optimize = trial.optimize

    def shortened(source: Path, target: Path) -> None:
        optimize(source, target)
        graph = onnx.load(target)
        (table,) = (tensor for tensor in graph.graph.initializer if "position_embeddings" in tensor.name)
        table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:5].copy(), table.name))
        onnx.save(graph, target)

    monkeypatch.setattr(trial, "optimize", shortened)
    with pytest.raises(ExportFailed) as raised:
        export_model(tiny_model("Bert"), "row", rows, tmp_path)
    assert raised.value.detail == (
        "BertForSequenceClassification (bert) becomes an ONNX graph that cannot be run for every text:"
        " its operator Gather fails in ONNX Runtime"
    )
    assert capfd.readouterr() == ("", "")


def test_an_input_that_the_graph_lost_is_named(
    tiny_model: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimize = trial.optimize

    def forgetful(source: Path, target: Path) -> None:
        """As for a model whose code takes the mask for a constant while it is exported."""
        optimize(source, target)
        graph = onnx.load(target)
        kept = [value for value in graph.graph.input if value.name != "attention_mask"]
        del graph.graph.input[:]
        graph.graph.input.extend(kept)
        onnx.save(graph, target)

    monkeypatch.setattr(trial, "optimize", forgetful)
    monkeypatch.setattr(trial, "is_packable", lambda model: False)
    with pytest.raises(ExportFailed, match=r"^BertFor\w+ \(bert\) becomes an ONNX graph that does not read attention_mask$"):
        export_model(tiny_model("Bert"), "row", rows, tmp_path)

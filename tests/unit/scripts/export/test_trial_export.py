"""A trial finds the layout in which a model answers as transformers does, or says in one sentence why there is none."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.export import trial_export as trial
from scripts.export.export import ExportFailed
from scripts.export.torch_runner import TorchRunner, padded_graph
from scripts.export.trial_export import export_model, spread


def test_a_model_is_packed_where_rows_stay_apart(tiny_model: Any, rows: list[Row], tmp_path: Path) -> None:
    assert export_model(tiny_model("Bert"), "row", rows, tmp_path).graph.layout == "packed"


def test_a_model_whose_packed_form_leaks_is_padded(
    tiny_model: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.export.packed.MASKED", 0.0)
    assert export_model(tiny_model("Bert"), "row", rows, tmp_path).graph.layout == "padded"


@pytest.mark.parametrize("axis", ["row", "token"])
def test_one_row_is_enough_to_export_a_padded_graph_for_any_number_of_them(
    axis: Any, tiny_model: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.export.trial_export.is_packable", lambda model: False)
    model = tiny_model("Bert", "QuestionAnswering" if axis == "token" else "SequenceClassification")
    exported = export_model(model, axis, rows[:1], tmp_path)
    expected = [TorchRunner(model, exported.graph).run_alone(row)["logits"] for row in rows]
    found = EncoderEngine(exported.file, exported.graph, choose_provider("cpu")).run_together(rows)
    for before, after in zip(expected, found, strict=True):
        np.testing.assert_allclose(after["logits"], before, atol=1e-4)


def test_a_model_that_reads_a_text_at_its_end_is_padded_on_the_left(tiny_model: Any, rows: list[Row], tmp_path: Path) -> None:
    model = tiny_model("XLNet")
    exported = export_model(model, "row", rows, tmp_path)
    assert (exported.graph.layout, exported.graph.padding_side) == ("padded", "left")
    runner = TorchRunner(model, padded_graph(model, exported.graph.outputs[0]))  # knows the side, too
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
        return [{"logits": one["logits"] + np.float32(0.01)} for one in outputs], side

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
        (table,) = (one for one in graph.graph.initializer if "position_embeddings" in one.name)
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
        kept = [one for one in graph.graph.input if one.name != "attention_mask"]
        del graph.graph.input[:]
        graph.graph.input.extend(kept)
        onnx.save(graph, target)

    monkeypatch.setattr(trial, "optimize", forgetful)
    monkeypatch.setattr(trial, "is_packable", lambda model: False)
    with pytest.raises(ExportFailed, match=r"^BertFor\w+ \(bert\) becomes an ONNX graph that does not read attention_mask$"):
        export_model(tiny_model("Bert"), "row", rows, tmp_path)

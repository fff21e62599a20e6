"""What always goes the same way is no branch any more; what depends on a value, or on a shape, stays one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

from app.core.types import Row
from scripts.export.fold_branches import write_without_branches
from scripts.export.trial_export import export_model
from tests.support.tiny_model import VOCABULARY

SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": len(VOCABULARY),
}
RELATIVE = {**SIZE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_position_embeddings": 64}
CONSTANTS = {
    "zero": np.array(0),
    "one": np.array(1),
    "width": np.array(1),
    "five": np.array(5),
    "step": np.array([2.0], np.float32),
}


def ops(file: Path) -> list[str]:
    return [node.op_type for node in onnx.load(file).graph.node]


def branching(file: Path, condition: list[Any]) -> Path:
    """x + 2 where the condition holds, else x * 2, for x of (rows, tokens)."""

    def branch(op: str) -> Any:
        node = helper.make_node(op, ["x", "step"], ["inner"], "inner")
        return helper.make_graph([node], op, [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])

    nodes = [
        helper.make_node("Cast", ["input_ids"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"]),
        helper.make_node("Gather", ["shape", "one"], ["tokens"]),
        *condition,
        helper.make_node("If", ["condition"], ["first"], "If_1", then_branch=branch("Add"), else_branch=branch("Mul")),
        helper.make_node("If", ["condition"], ["second"], "If_2", then_branch=branch("Add"), else_branch=branch("Mul")),
        helper.make_node("Add", ["first", "second"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", "tokens"])]
    weights = [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "branching", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, file)
    return file


def answer(file: Path, ids: Any) -> Any:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": np.array(ids, np.int64)})[0].tolist()


ALWAYS = [helper.make_node("Equal", ["tokens", "tokens"], ["condition"])]
NEVER = [helper.make_node("Equal", ["tokens", "tokens"], ["same"]), helper.make_node("Not", ["same"], ["condition"])]
BY_LENGTH = [helper.make_node("Less", ["tokens", "five"], ["condition"])]
BY_VALUE = [
    helper.make_node("ReduceMax", ["input_ids"], ["largest"], keepdims=0),
    helper.make_node("Less", ["largest", "five"], ["condition"]),
]


@pytest.mark.parametrize(("condition", "expected"), [(ALWAYS, [[6.0, 22.0]]), (NEVER, [[4.0, 36.0]])], ids=["always", "never"])
def test_what_always_goes_the_same_way_is_no_branch(condition: list[Any], expected: Any, tmp_path: Path) -> None:
    file = branching(tmp_path / "model.onnx", condition)
    straight = write_without_branches(file, tmp_path / "straight.onnx")
    assert "If" not in ops(straight)
    onnx.checker.check_model(onnx.load(straight), full_check=True)
    assert answer(straight, [[1, 9]]) == answer(file, [[1, 9]]) == expected


@pytest.mark.parametrize("condition", [BY_LENGTH, BY_VALUE], ids=["length", "value"])
def test_what_depends_on_the_input_stays_a_branch(condition: list[Any], tmp_path: Path) -> None:
    file = branching(tmp_path / "model.onnx", condition)
    straight = write_without_branches(file, tmp_path / "straight.onnx")
    assert ops(straight).count("If") == 2
    assert answer(straight, [[1, 9]]) == answer(file, [[1, 9]])


def test_a_graph_without_branches_is_left_alone(tmp_path: Path, export: Any) -> None:
    file = export("Bert").file
    assert write_without_branches(file, tmp_path / "straight.onnx") == file


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("Deberta", {**RELATIVE, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}),
        ("DebertaV2", {**RELATIVE, "position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm"}),
    ],
)
def test_a_deberta_has_no_branch_and_answers_as_before(
    family: str, config: dict[str, Any], tmp_path: Path, rows: list[Row]
) -> None:
    """OpenVINO's CPU plug-in compiles no If whose branches it cannot tell the rank of."""
    torch.manual_seed(1)
    settings = getattr(transformers, f"{family}Config")(**config, num_labels=3, type_vocab_size=0)
    model = getattr(transformers, f"{family}ForSequenceClassification")(settings).eval()
    exported = export_model(model, "row", rows, tmp_path)
    assert "If" in ops(tmp_path / "exported.onnx")
    assert "If" not in ops(exported.file)
    session = onnxruntime.InferenceSession(exported.file, providers=["CPUExecutionProvider"])
    for shape in ((1, 1), (2, 20), (3, 50)):
        ids = torch.arange(shape[0] * shape[1]).reshape(shape) % 9 + 4
        mask = torch.ones_like(ids)
        mask[-1, shape[1] // 2 + 1 :] = 0
        tensors = {"input_ids": ids, "attention_mask": mask}
        expected = model(**tensors).logits.detach().numpy()
        given = {name: tensors[name].numpy() for name in exported.graph.inputs}
        np.testing.assert_allclose(session.run(None, given)[0], expected, atol=1e-5)

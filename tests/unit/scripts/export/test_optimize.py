"""The cleaned graph is smaller, means the same, and still runs on every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.core.errors import SetupError
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.export.optimize import optimize


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Albert"])
def test_the_cleaned_graph_has_fewer_nodes_and_the_same_answers(
    family: str, export: Any, rows: list[Row], tmp_path: Path
) -> None:
    exported, target = export(family), tmp_path / "optimized.onnx"
    optimize(exported.file, target)
    before, after = onnx.load(exported.file), onnx.load(target)
    assert len(after.graph.node) < len(before.graph.node)
    assert {one.domain for one in after.opset_import} == {""}
    assert all(dim.dim_param for one in after.graph.input for dim in one.type.tensor_type.shape.dim)
    session = EncoderEngine(target, exported.graph, choose_provider("cpu"), num_threads=1)
    for batch in (rows, rows[:1], rows[3:5]):
        for one, other in zip(session.run_rows(batch), exported.session().run_rows(batch), strict=True):
            np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-5)


def test_operators_of_one_runtime_are_refused(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "gelu", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "model.onnx")
    with pytest.raises(SetupError, match=r"com\.microsoft"):
        optimize(tmp_path / "model.onnx", tmp_path / "optimized.onnx")

"""Embedding tables stay as they are stored, and every number that is computed with them is the same, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from app.runtime.onnx_file import write_with_stored_tables

ROWS, WIDTH = 5, 4
IDS = np.array([[0, 4, 2], [1, 1, 3]])


def write(path: Path, storage: str, more: list[NodeProto] | None = None, axis: int = 0) -> Path:
    """A graph that looks rows up in a table, stored as int8 with a scale for each row or column, or as fp16."""
    generator = np.random.default_rng(0)
    if storage == "int8":
        scales = generator.random(ROWS if axis == 0 else WIDTH, np.float32)
        tensors = {"table": generator.integers(-127, 128, (ROWS, WIDTH)).astype(np.int8), "scale": scales}
        unpack = helper.make_node("DequantizeLinear", ["table", "scale"], ["whole"], axis=axis)
    else:
        tensors = {"table": generator.random((ROWS, WIDTH)).astype(np.float16)}
        unpack = helper.make_node("Cast", ["table"], ["whole"], to=TensorProto.FLOAT)
    gather = helper.make_node("Gather", ["whole", "ids"], ["y"], axis=0)
    graph = helper.make_graph(
        [unpack, gather, *(more or [])],
        "look-up",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [2, 3])],
        [
            helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [None, None, None][: 3 - number])
            for number, node in enumerate([gather, *(more or [])])
        ],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def answer(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (rows, *_) = session.run(None, {"ids": IDS})
    return np.asarray(rows)


@pytest.mark.parametrize("storage", ["int8", "fp16"])
def test_rows_are_looked_up_before_they_become_fp32(tmp_path: Path, storage: str) -> None:
    source, target = write(tmp_path / "model.onnx", storage), tmp_path / "stored.onnx"
    assert write_with_stored_tables(source, target)
    model = onnx.load(target)
    onnx.checker.check_model(model, full_check=True)
    gather = next(node for node in model.graph.node if node.op_type == "Gather")
    assert gather.input[0] == "table"
    assert "DequantizeLinear" not in {node.op_type for node in model.graph.node}
    assert (answer(target) == answer(source)).all()


def test_a_table_that_is_multiplied_with_too_is_left_alone(tmp_path: Path) -> None:
    logits = helper.make_node("Transpose", ["whole"], ["logits"])
    source = write(tmp_path / "model.onnx", "int8", [logits])
    assert not write_with_stored_tables(source, tmp_path / "stored.onnx")
    assert not (tmp_path / "stored.onnx").exists()


def test_a_scale_for_each_column_is_left_alone(tmp_path: Path) -> None:
    assert not write_with_stored_tables(write(tmp_path / "model.onnx", "int8", axis=1), tmp_path / "stored.onnx")


def test_weights_in_another_file_are_left_alone(tmp_path: Path) -> None:
    source = write(tmp_path / "model.onnx", "fp16")
    onnx.save(onnx.load(source), source, save_as_external_data=True, size_threshold=0, location="model.data")
    assert not write_with_stored_tables(source, tmp_path / "stored.onnx")

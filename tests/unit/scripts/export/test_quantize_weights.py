"""Large matrices lie on disk as int8 or fp16, and are fp32 again when the production session has loaded them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from app.core.manifest import Graph, Output
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.export.optimize import optimize
from scripts.export.quantize_weights import Storage, compact, quantize

GRAPH = Graph(file="g.onnx", layout="packed", inputs=("x",), outputs=(Output(name="y", axis="row"),), storage="fp32")


def compacted(exported: Any, folder: Path, min_weights: int = 1, storage: Storage = "int8") -> tuple[Path, Graph]:
    optimize(exported.file, folder / "optimized.onnx")
    target = folder / "compact.onnx"
    return target, compact(folder / "optimized.onnx", target, exported.graph, storage, min_weights)


def save(path: Path, nodes: list[Any], weights: dict[str, np.ndarray], inputs: dict[str, int], opset: int = 17) -> Path:
    made = [helper.make_tensor_value_info(name, kind, ["n", "m"]) for name, kind in inputs.items()]
    output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", made, output, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def stored(path: Path) -> dict[str, onnx.TensorProto]:
    return {one.name: one for one in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(("storage", "largest"), [("int8", 0.5), ("fp16", 0.05)])
@pytest.mark.parametrize("family", ["Bert", "Roberta", "Electra", "DistilBert", "Albert"])
def test_the_compact_graph_answers_nearly_alike(
    family: str, storage: Storage, largest: float, export: Any, rows: list[Row], tmp_path: Path
) -> None:
    exported = export(family)
    file, graph = compacted(exported, tmp_path, storage=storage)
    assert graph.storage == storage
    session = EncoderEngine(file, graph, choose_provider("cpu"), num_threads=1)
    errors = [
        np.abs(one["logits"] - other["logits"]).max()
        for one, other in zip(session.run_rows(rows), exported.session().run_rows(rows), strict=True)
    ]
    assert 0 < max(errors) < largest


def test_fp16_weights_take_half_of_the_room(export: Any, tmp_path: Path) -> None:
    file, _ = compacted(export("Bert"), tmp_path, storage="fp16")
    weights = onnx.load(tmp_path / "optimized.onnx").graph.initializer
    halved = [one for one in onnx.load(file).graph.initializer if one.data_type == TensorProto.FLOAT16]
    assert {one.name.removesuffix("_fp16") for one in halved} <= {one.name for one in weights}
    for one in halved:
        (original,) = [w for w in weights if w.name == one.name.removesuffix("_fp16")]
        assert 2 * len(numpy_helper.to_array(one).tobytes()) == len(numpy_helper.to_array(original).tobytes())
    assert len(halved) > 10


def test_all_matrices_and_the_word_embeddings_are_int8_and_the_rest_is_not(export: Any, tmp_path: Path) -> None:
    file, _ = compacted(export("Bert"), tmp_path)
    model = onnx.load(file)
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    multiplied = {node.input[1] for node in model.graph.node if node.op_type in ("MatMul", "Gemm")}
    looked_up = {node.input[0]: node.input[1] for node in model.graph.node if node.op_type == "Gather"}
    weights = {name for name in multiplied if name in dequantized}
    assert len(weights) == 2 * 6 + 2  # two layers of six products, pooler and classifier
    assert {table for table in looked_up if table in dequantized} == {
        table for table, ids in looked_up.items() if ids == "input_ids"
    }
    kinds = {name: one.data_type for name, one in stored(file).items()}
    assert all(kinds[f"{name}_int8"] == TensorProto.INT8 for name in dequantized)


def test_any_runtime_loads_the_compact_file_as_it_is(export: Any, rows: list[Row], tmp_path: Path) -> None:
    file, graph = compacted(export("Bert"), tmp_path)
    plain = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert {one.name for one in plain.get_inputs()} == set(graph.inputs)
    assert {node.domain for node in onnx.load(file).graph.node} == {""}


def test_the_session_options_of_the_service_fold_every_dequantization_away(export: Any, tmp_path: Path) -> None:
    file, _ = compacted(export("Bert"), tmp_path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    folded = onnx.load(tmp_path / "folded.onnx")
    assert "DequantizeLinear" not in {node.op_type for node in folded.graph.node}
    assert {one.data_type for one in folded.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}


def test_matrices_below_the_limit_stay_as_they_are(export: Any, tmp_path: Path) -> None:
    file, graph = compacted(export("Bert"), tmp_path, min_weights=10_000)
    assert graph.storage == "fp32"
    assert TensorProto.INT8 not in {one.data_type for one in stored(file).values()}


@pytest.mark.parametrize(("transposed", "channels"), [(0, 3), (1, 4)])
def test_each_output_channel_of_a_product_has_its_own_scale(transposed: int, channels: int, tmp_path: Path) -> None:
    weights = np.arange(12, dtype=np.float32).reshape(4, 3)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=transposed)
    source = save(tmp_path / "g.onnx", [node], {"w": weights}, {"x": TensorProto.FLOAT})
    compact(source, tmp_path / "c.onnx", GRAPH, min_weights=1)
    assert stored(tmp_path / "c.onnx")["w_scale"].dims == [channels]


def test_a_matrix_used_in_two_ways_is_left_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["w", "input_ids"], ["words"]),
        helper.make_node("MatMul", ["words", "w"], ["y"]),
    ]
    source = save(tmp_path / "g.onnx", nodes, {"w": np.ones((4, 4), np.float32)}, {"input_ids": TensorProto.INT64})
    assert compact(source, tmp_path / "c.onnx", GRAPH, min_weights=1).storage == "fp32"


def test_a_channel_of_zeros_stays_zero() -> None:
    quantized, scale = quantize(np.zeros((2, 3), np.float32), 0)
    assert not quantized.any()
    assert np.isfinite(scale).all()


@given(st.integers(0, 1), st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_the_chosen_scale_is_never_worse_than_that_of_the_largest_weight(axis: int, seed: int, size: float) -> None:
    weights = (np.random.default_rng(seed).standard_t(3, (5, 40)) * size).astype(np.float32)
    along = 1 - axis
    quantized, scale = quantize(weights, axis)
    plain = np.abs(weights).max(axis=along) / 127
    chosen = np.square(quantized * np.expand_dims(scale, along) - weights).sum(axis=along)
    rounded = np.rint(weights / np.expand_dims(plain, along)) * np.expand_dims(plain, along)
    assert (chosen <= np.square(rounded - weights).sum(axis=along) * (1 + 1e-3)).all()
    assert np.abs(quantized).max() <= 127

"""A graph becomes smaller, means the same, runs on every engine, and has a second file where protobuf cannot hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from app.core.errors import InvalidArtefact, SetupError
from app.core.manifest import Graph, Output, read_manifest, verify_files
from app.core.types import Row
from app.runtime import onnx_session
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.export import optimize as optimize_module
from scripts.export.commands import add
from scripts.export.export import export_model
from scripts.export.optimize import (
    Storage,
    move,
    num_bytes,
    optimize,
    quantize,
    quantize_weights,
    save,
    weights_file,
    write_without_branches,
)
from tests.support.tiny_model import VOCABULARY
from tests.unit.scripts.conftest import Save

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


def test_conditions_are_asked_with_a_token_that_a_text_of_one_has(tmp_path: Path) -> None:
    model = onnx.load(branching(tmp_path / "model.onnx", ALWAYS))
    model.graph.input.append(helper.make_tensor_value_info("gather", TensorProto.INT64, ["read"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "flat"))
    model.graph.node.append(helper.make_node("Reshape", ["logits", "flat"], ["tokens_in_a_row"]))
    model.graph.node.append(helper.make_node("Gather", ["tokens_in_a_row", "gather"], ["read_logits"]))
    model.graph.output.append(helper.make_tensor_value_info("read_logits", TensorProto.FLOAT, ["read"]))
    onnx.save(model, tmp_path / "model.onnx")
    assert "If" not in ops(write_without_branches(tmp_path / "model.onnx", tmp_path / "straight.onnx"))


def test_a_graph_without_branches_is_left_alone(tmp_path: Path, export: Any) -> None:
    file = export("Bert").file
    assert write_without_branches(file, tmp_path / "straight.onnx") == file


@pytest.mark.slow  # how branches go is shown by small graphs, above
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


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Albert"])
def test_the_cleaned_graph_has_fewer_nodes_and_the_same_answers(
    family: str, export: Any, rows: list[Row], tmp_path: Path
) -> None:
    exported, target = export(family), tmp_path / "optimized.onnx"
    optimize(exported.file, target)
    before, after = onnx.load(exported.file), onnx.load(target)
    assert len(after.graph.node) < len(before.graph.node)
    assert {opset.domain for opset in after.opset_import} == {""}
    assert all(dim.dim_param for value in after.graph.input for dim in value.type.tensor_type.shape.dim)
    session = EncoderEngine(target, exported.graph, choose_provider("cpu"), num_threads=1)
    for batch in (rows, rows[:1], rows[3:5]):
        for output, other in zip(session.run_rows(batch), exported.session().run_rows(batch), strict=True):
            np.testing.assert_allclose(output["logits"], other["logits"], atol=1e-5)


def test_operators_of_one_runtime_are_refused(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "gelu", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "model.onnx")
    with pytest.raises(SetupError, match=r"com\.microsoft"):
        optimize(tmp_path / "model.onnx", tmp_path / "optimized.onnx")


GRAPH = Graph(file="g.onnx", layout="packed", inputs=("x",), outputs=(Output(name="y", axis="row"),), storage="fp32")


def quantized_copy(exported: Any, folder: Path, min_weights: int = 1, storage: Storage = "int8") -> tuple[Path, Graph]:
    optimize(exported.file, folder / "optimized.onnx")
    target = folder / "quantized.onnx"
    return target, quantize_weights(folder / "optimized.onnx", target, exported.graph, storage, min_weights)


def save_graph(path: Path, nodes: list[Any], weights: dict[str, np.ndarray], inputs: dict[str, int], opset: int = 17) -> Path:
    made = [helper.make_tensor_value_info(name, kind, ["n", "m"]) for name, kind in inputs.items()]
    output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", made, output, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def stored(path: Path) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(("storage", "largest"), [("int8", 0.5), ("fp16", 0.05)])
@pytest.mark.parametrize("family", ["Bert", "Roberta", "Electra", "DistilBert", "Albert"])
def test_the_graph_with_quantized_weights_answers_nearly_alike(
    family: str, storage: Storage, largest: float, export: Any, rows: list[Row], tmp_path: Path
) -> None:
    exported = export(family)
    file, graph = quantized_copy(exported, tmp_path, storage=storage)
    assert graph.storage == storage
    session = EncoderEngine(file, graph, choose_provider("cpu"), num_threads=1)
    errors = [
        np.abs(output["logits"] - other["logits"]).max()
        for output, other in zip(session.run_rows(rows), exported.session().run_rows(rows), strict=True)
    ]
    assert 0 < max(errors) < largest


def test_fp16_weights_take_half_of_the_room(export: Any, tmp_path: Path) -> None:
    file, _ = quantized_copy(export("Bert"), tmp_path, storage="fp16")
    weights = onnx.load(tmp_path / "optimized.onnx").graph.initializer
    halved = [tensor for tensor in onnx.load(file).graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    assert {tensor.name.removesuffix("_fp16") for tensor in halved} <= {tensor.name for tensor in weights}
    for tensor in halved:
        (original,) = [w for w in weights if w.name == tensor.name.removesuffix("_fp16")]
        assert 2 * len(numpy_helper.to_array(tensor).tobytes()) == len(numpy_helper.to_array(original).tobytes())
    assert len(halved) > 10


def test_all_matrices_and_the_word_embeddings_are_int8_and_the_rest_is_not(export: Any, tmp_path: Path) -> None:
    file, _ = quantized_copy(export("Bert"), tmp_path)
    model = onnx.load(file)
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    multiplied = {node.input[1] for node in model.graph.node if node.op_type in ("MatMul", "Gemm")}
    looked_up = {node.input[0]: node.input[1] for node in model.graph.node if node.op_type == "Gather"}
    weights = {name for name in multiplied if name in dequantized}
    assert len(weights) == 2 * 6 + 2  # two layers of six products, pooler and classifier
    assert {table for table in looked_up if table in dequantized} == {
        table for table, ids in looked_up.items() if ids == "input_ids"
    }
    kinds = {name: tensor.data_type for name, tensor in stored(file).items()}
    assert all(kinds[f"{name}_int8"] == TensorProto.INT8 for name in dequantized)


def test_any_runtime_loads_the_quantized_file_as_it_is(export: Any, rows: list[Row], tmp_path: Path) -> None:
    file, graph = quantized_copy(export("Bert"), tmp_path)
    plain = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert {value.name for value in plain.get_inputs()} == set(graph.inputs)
    assert {node.domain for node in onnx.load(file).graph.node} == {""}


def test_the_session_options_of_the_service_fold_every_dequantization_away(export: Any, tmp_path: Path) -> None:
    file, _ = quantized_copy(export("Bert"), tmp_path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    folded = onnx.load(tmp_path / "folded.onnx")
    assert "DequantizeLinear" not in {node.op_type for node in folded.graph.node}
    assert {tensor.data_type for tensor in folded.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}


def test_matrices_below_the_limit_stay_as_they_are(export: Any, tmp_path: Path) -> None:
    file, graph = quantized_copy(export("Bert"), tmp_path, min_weights=10_000)
    assert graph.storage == "fp32"
    assert TensorProto.INT8 not in {tensor.data_type for tensor in stored(file).values()}


@pytest.mark.parametrize(("transposed", "channels"), [(0, 3), (1, 4)])
def test_each_output_channel_of_a_product_has_its_own_scale(transposed: int, channels: int, tmp_path: Path) -> None:
    weights = np.arange(12, dtype=np.float32).reshape(4, 3)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=transposed)
    source = save_graph(tmp_path / "g.onnx", [node], {"w": weights}, {"x": TensorProto.FLOAT})
    quantize_weights(source, tmp_path / "c.onnx", GRAPH, min_weights=1)
    assert stored(tmp_path / "c.onnx")["w_scale"].dims == [channels]


def test_a_matrix_used_in_two_ways_is_left_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["w", "input_ids"], ["words"]),
        helper.make_node("MatMul", ["words", "w"], ["y"]),
    ]
    source = save_graph(tmp_path / "g.onnx", nodes, {"w": np.ones((4, 4), np.float32)}, {"input_ids": TensorProto.INT64})
    assert quantize_weights(source, tmp_path / "c.onnx", GRAPH, min_weights=1).storage == "fp32"


@pytest.mark.parametrize("storage", ["int8", "fp16"])
def test_words_are_stored_small_where_those_that_the_vocabulary_lacks_become_another(storage: Storage, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Less", ["input_ids", "known"], ["is_known"]),
        helper.make_node("Where", ["is_known", "input_ids", "unknown"], ["read"]),
        helper.make_node("Gather", ["w", "read"], ["words"]),
        helper.make_node("Gather", ["positions", "place"], ["placed"]),
        helper.make_node("Add", ["words", "placed"], ["vectors"]),
        helper.make_node("ReduceMax", ["vectors"], ["y"], axes=[2], keepdims=0),
    ]
    words = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    numbers = {"known": np.array(5), "unknown": np.array(1), "place": np.array([2])}
    weights = {"w": words, "positions": np.ones((6, 4), np.float32), **numbers}
    source = save_graph(tmp_path / "g.onnx", nodes, weights, {"input_ids": TensorProto.INT64})
    quantize_weights(source, tmp_path / "small.onnx", GRAPH, storage, min_weights=1)
    assert f"w_{storage}" in stored(tmp_path / "small.onnx")
    assert "positions" in stored(tmp_path / "small.onnx"), "only tables of words are read by token"
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"input_ids": np.array([[3, 5]])})
    np.testing.assert_allclose(answer, [words[[3, 1]].max(axis=1) + 1], atol=0.02)


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


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if protobuf ended at a kilobyte."""
    monkeypatch.setattr(optimize_module, "MAX_PROTO_BYTES", 1000)
    monkeypatch.setattr(onnx_session, "MAX_FOLDED_BYTES", 1000)
    monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")  # the exporter writes two files, too


def test_a_graph_that_goes_into_one_file_has_one(export: Any, tmp_path: Path) -> None:
    save(onnx.load(export("Bert").file), tmp_path / "one.onnx")
    assert weights_file(tmp_path / "one.onnx") is None
    assert num_bytes(tmp_path / "one.onnx") == (tmp_path / "one.onnx").stat().st_size


@pytest.mark.usefixtures("small_limit")
def test_a_larger_one_has_two_and_answers_alike_after_it_was_renamed(export: Any, rows: list[Row], tmp_path: Path) -> None:
    exported = export("Bert")
    save(onnx.load(exported.file), tmp_path / "two.onnx")
    save(onnx.load(exported.file), tmp_path / "two.onnx")  # again: nothing is appended
    size = num_bytes(tmp_path / "two.onnx")
    assert weights_file(tmp_path / "two.onnx") is not None
    assert size < 1.2 * num_bytes(exported.file)
    moved = move(tmp_path / "two.onnx", tmp_path / "renamed.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["renamed.onnx", "renamed.onnx.data"]
    session = EncoderEngine(moved, exported.graph, choose_provider("cpu"))
    for output, other in zip(session.run_rows(rows), exported.session().run_rows(rows), strict=True):
        np.testing.assert_array_equal(output["logits"], other["logits"])


@pytest.mark.usefixtures("small_limit")
def test_weights_that_are_small_on_disk_unfold_beside_the_graph(export: Any, rows: list[Row], tmp_path: Path) -> None:
    exported = export("Bert")
    graph = quantize_weights(exported.file, tmp_path / "model.onnx", exported.graph, "fp16", min_weights=1)
    session = EncoderEngine(tmp_path / "model.onnx", graph, choose_provider("cpu"))
    for output, other in zip(session.run_rows(rows), exported.session().run_rows(rows), strict=True):
        np.testing.assert_allclose(output["logits"], other["logits"], atol=0.05)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("storage", [pytest.param("fp32", marks=pytest.mark.slow), "int8"])
def test_a_checkpoint_over_the_limit_is_published_with_both_files_checksummed(
    storage: str, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOPER_MODELS", str(tmp_path / "models"))
    assert add([str(save()), "--storage", storage]) == 0
    folder = tmp_path / "models" / "films" / "1"
    manifest = read_manifest(folder)
    assert "model.onnx.data" in manifest.files
    verify_files(folder, manifest)
    row = Row([2, 4, 6, 3], [0] * 4)
    session = EncoderEngine(folder / manifest.graph.file, manifest.graph, choose_provider("cpu"))
    assert np.isfinite(session.run_rows([row])[0]["logits"]).all()
    assert (
        f"{sum(entry.num_bytes for name, entry in manifest.files.items() if name.startswith('model.onnx')) / 1e6:.1f} MB"
        in (folder / "README.md").read_text(encoding="utf-8")
    )
    data = folder / "model.onnx.data"
    data.write_bytes(bytes(data.stat().st_size))
    with pytest.raises(InvalidArtefact, match=r"model\.onnx\.data differs"):
        verify_files(folder, manifest)

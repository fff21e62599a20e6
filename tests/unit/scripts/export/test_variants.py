"""Variants for one precision: they answer nearly alike, rows do not feel each other, and weights are not copied."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.core.errors import InvalidArtefact
from app.core.manifest import Graph, Output
from app.core.types import Precision, Row
from app.runtime import onnx_session
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider, has_int8, integer_precisions
from scripts.export import layouts, variants
from scripts.export.export import export_graph
from scripts.export.optimize import Storage, optimize, quantize_weights
from scripts.export.rounding import write_simulated_fp16
from scripts.export.variants import (
    FP16_VARIANT,
    VARIANTS,
    ends_its_process,
    write_exact_int8,
    write_fp16,
    write_int7,
    write_int8,
)
from scripts.export.verify import ParityFailed, Reference

CPU = choose_provider("cpu")
IN_FP16 = replace(CPU, precision="fp16")


class Fp16Files:
    """A stored graph, its fp16 variant, and what shows how that rounds."""

    def __init__(self, exported: Any, folder: Path, storage: str = "int8") -> None:
        optimize(exported.file, folder / "optimized.onnx")
        self.stored, self.fp16_file, self.simulated = folder / "model.onnx", folder / "model.fp16.onnx", folder / "rounded.onnx"
        if storage == "fp32":
            self.graph = exported.graph
            (folder / "optimized.onnx").rename(self.stored)
        else:
            self.graph = quantize_weights(folder / "optimized.onnx", self.stored, exported.graph, storage, min_weights=1)  # type: ignore[arg-type]
        write_fp16(self.stored, self.fp16_file)
        write_simulated_fp16(self.fp16_file, self.simulated)

    def fp32(self) -> EncoderEngine:
        return EncoderEngine(self.stored, self.graph, CPU, 1)

    def fp16(self) -> EncoderEngine:
        return EncoderEngine(self.simulated, self.graph, IN_FP16, 1)


def logits(session: EncoderEngine, rows: list[Row]) -> np.ndarray:
    return np.stack([output["logits"] for output in session.run_rows(rows)])


@pytest.mark.parametrize("family", ["Bert", "Roberta", "Electra", "DistilBert", "Albert"])
@pytest.mark.parametrize("storage", ["int8", "fp16", "fp32"])
def test_the_fp16_variant_answers_nearly_as_fp32(
    family: str, storage: str, export: Any, rows: list[Row], tmp_path: Path
) -> None:
    files = Fp16Files(export(family), tmp_path, storage)
    expected = logits(files.fp32(), rows)
    variant = EncoderEngine(files.fp16_file, files.graph, IN_FP16, 1)
    for session in (variant, files.fp16()):
        errors = np.abs(logits(session, rows) - expected)
        assert 0 < errors.mean() < 0.02 * expected.std()


def test_in_fp16_what_other_rows_say_changes_nothing(export: Any, rows: list[Row], tmp_path: Path) -> None:
    session, words = Fp16Files(export("Bert"), tmp_path).fp16(), random.Random(7)
    others = [replace(row, input_ids=[2, *words.choices(range(4, 14), k=row.num_tokens - 2), 3]) for row in rows]
    for kept in (0, 1):
        mixed = [row if number % 2 == kept else other for number, (row, other) in enumerate(zip(rows, others, strict=True))]
        before, after = logits(session, rows), logits(session, mixed)
        np.testing.assert_array_equal(before[kept::2], after[kept::2])
        assert not np.array_equal(before[1 - kept :: 2], after[1 - kept :: 2])


def test_in_fp16_all_between_the_inputs_and_the_logits_is_fp16(export: Any, tmp_path: Path) -> None:
    model = onnx.load(Fp16Files(export("Bert"), tmp_path).fp16_file)
    kinds = {
        value.name: value.type.tensor_type.elem_type for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    products = [node.output[0] for node in model.graph.node if node.op_type in ("MatMul", "Softmax", "LayerNormalization")]
    assert len(products) > 2 * 9
    assert {kinds[name] for name in products} == {TensorProto.FLOAT16}
    assert [value.type.tensor_type.elem_type for value in model.graph.output] == [TensorProto.FLOAT]
    assert {value.type.tensor_type.elem_type for value in model.graph.input} == {TensorProto.INT64}
    onnx.checker.check_model(model)


@pytest.mark.parametrize("storage", ["int8", "fp16", "fp32"])
def test_the_fp16_variant_reads_its_weights_out_of_the_file_beside_it(
    storage: str, export: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "MIN_SHARED_BYTES", 1)
    files = Fp16Files(export("Bert"), tmp_path, storage)
    held = onnx.load(files.fp16_file, load_external_data=False).graph.initializer
    sharing = [tensor for tensor in held if tensor.data_location == TensorProto.EXTERNAL]
    assert {entry.value for tensor in sharing for entry in tensor.external_data if entry.key == "location"} == {"model.onnx"}
    assert max((len(tensor.raw_data) for tensor in held if len(tensor.dims) == 2), default=0) == 0
    whole = onnx.load(files.fp16_file)
    assert len(whole.SerializeToString()) > 1.2 * files.fp16_file.stat().st_size
    expected = logits(files.fp32(), rows)
    assert np.abs(logits(EncoderEngine(files.fp16_file, files.graph, IN_FP16, 1), rows) - expected).max() < 0.1 * expected.std()
    files.stored.unlink()
    with pytest.raises(InvalidArtefact):
        EncoderEngine(files.fp16_file, files.graph, IN_FP16, 1)


@pytest.mark.parametrize("storage", ["int8", "fp16", "fp32"])
def test_its_weights_are_fp16_constants_once_it_is_loaded(storage: str, export: Any, tmp_path: Path) -> None:
    files = Fp16Files(export("Bert"), tmp_path, storage)
    options = onnx_session._options(1)
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(files.simulated, options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx").graph
    assert "DequantizeLinear" not in {node.op_type for node in loaded.node}
    made = {name for node in loaded.node for name in node.output}
    weights = [node.input[1] for node in loaded.node if node.op_type in ("MatMul", "FusedMatMul") and node.input[1] not in made]
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.initializer}
    assert len(weights) == 2 * 6
    for name in weights:
        np.testing.assert_array_equal(values[name], values[name].astype(np.float16))


def masked_graph(folder: Path, masked: float) -> Graph:
    """Logits are the mean of the tokens of a row, by a softmax over a mask that is added to scores of 0."""
    nodes = [
        helper.make_node("Unsqueeze", ["segment_ids", "one"], ["line"]),
        helper.make_node("Unsqueeze", ["segment_ids", "two"], ["column"]),
        helper.make_node("Equal", ["line", "column"], ["same"]),
        helper.make_node("Where", ["same", "nothing", "masked"], ["mask"]),
        helper.make_node("Gather", ["words", "input_ids"], ["values"]),
        helper.make_node("Add", ["mask", "score"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "values"], ["logits"]),
    ]
    constants = {
        "one": np.asarray([1]), "two": np.asarray([2]), "nothing": np.float32(0), "masked": np.float32(masked),
        "words": np.arange(20, dtype=np.float32).reshape(10, 2), "score": np.float32(-100),
    }  # fmt: skip
    names = ("input_ids", "segment_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["lines", "tokens"]) for name in names]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["lines", "tokens", 2])]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "masked", inputs, outputs, initializers)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    return Graph(
        file="model.onnx", layout="packed", inputs=names, outputs=(Output(name="logits", axis="token"),), storage="fp32"
    )


def test_a_mask_of_the_least_fp32_number_still_masks_and_stays_finite(tmp_path: Path) -> None:
    graph = masked_graph(tmp_path, float(np.finfo(np.float32).min))
    write_fp16(tmp_path / "model.onnx", tmp_path / "model.fp16.onnx")
    write_simulated_fp16(tmp_path / "model.fp16.onnx", tmp_path / "rounded.onnx")
    session = EncoderEngine(tmp_path / "rounded.onnx", graph, IN_FP16, 1)
    first, beside = Row([1, 3], [0, 0]), [Row([5, 5, 5], [0, 0, 0]), Row([9, 8], [0, 0])]
    for other in beside:
        np.testing.assert_array_equal(session.run_rows([first, other])[0]["logits"], [[4, 5], [4, 5]])
    model = onnx.load(tmp_path / "model.fp16.onnx")
    mask = next(tensor for tensor in model.graph.initializer if tensor.name == "masked")
    assert numpy_helper.to_array(mask) - np.float16(100) > -np.inf


IN_INT8 = replace(choose_provider("cpu"), precision="int8")
NEARLY: dict[Precision, float] = {"int8": 0.1, "int7": 0.25}
"""Errors of weights drawn at random, in parts of the deviation of logits. Those of int7 are rounded once more."""
integers = pytest.mark.parametrize("precision", list(NEARLY))


class IntegerFiles:
    """A graph with small weights and its variant that multiplies int8, in one folder."""

    def __init__(self, exported: Any, folder: Path, precision: Precision = "int8", storage: Storage = "int8") -> None:
        optimize(exported.file, folder / "optimized.onnx")
        variant = VARIANTS[precision]
        self.precision, self.stored, self.file = precision, folder / "model.onnx", folder / variant.file
        self.graph = quantize_weights(folder / "optimized.onnx", self.stored, exported.graph, storage, min_weights=1)
        assert variant.write(self.stored, self.file, self.graph)

    def sessions(self) -> tuple[EncoderEngine, EncoderEngine]:
        return EncoderEngine(self.stored, self.graph, choose_provider("cpu"), 1), self.session()

    def session(self) -> EncoderEngine:
        """As processors compute it that do so exactly."""
        if self.precision == "int7" or has_int8():
            return EncoderEngine(self.file, self.graph, IN_INT8, 1)
        write_exact_int8(self.file, self.file.with_name("exact.onnx"))
        return EncoderEngine(self.file.with_name("exact.onnx"), self.graph, IN_INT8, 1)


@integers
@pytest.mark.parametrize("family", ["Bert", "Roberta", "Electra", "DistilBert", "Albert"])
def test_variants_of_integers_answer_nearly_as_fp32(
    family: str, precision: Precision, export: Any, rows: list[Row], tmp_path: Path
) -> None:
    fp32, variant = IntegerFiles(export(family), tmp_path, precision).sessions()
    expected = logits(fp32, rows)
    assert 0 < np.abs(logits(variant, rows) - expected).mean() < NEARLY[precision] * expected.std()


@integers
def test_in_integers_a_row_does_not_feel_its_neighbours(
    precision: Precision, export: Any, rows: list[Row], tmp_path: Path
) -> None:
    session = IntegerFiles(export("Bert"), tmp_path, precision).session()
    together = session.run_rows(rows)
    for row, beside in zip(rows, together, strict=True):
        np.testing.assert_allclose(session.run_rows([row])[0]["logits"], beside["logits"], atol=1e-5)


@integers
def test_every_int8_product_but_the_head_is_one_of_integers(precision: Precision, export: Any, tmp_path: Path) -> None:
    files = IntegerFiles(export("Bert"), tmp_path, precision)
    kinds = [node.op_type for node in onnx.load(files.file).graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 2 * 6  # two layers of six
    assert kinds.count("QuantizeLinear") == 2 * 4  # query, key and value share one
    weights = {node.input[1] for node in onnx.load(files.file).graph.node if node.op_type == "MatMul"}
    assert not any(name in {tensor.name for tensor in onnx.load(files.stored).graph.initializer} for name in weights)


@pytest.mark.parametrize(("precision", "storage"), [("int8", "int8"), ("int7", "int8"), ("int7", "fp16")])
def test_a_variant_of_integers_reads_its_large_weights_out_of_the_graph(
    precision: Precision, storage: Storage, export: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "MIN_SHARED_BYTES", 1)
    files = IntegerFiles(export("Bert"), tmp_path, precision, storage)
    fp32, variant = files.sessions()
    assert abs(variant.run_rows(rows)[0]["logits"] - fp32.run_rows(rows)[0]["logits"]).max() < 0.5
    stored = onnx.load(files.file, load_external_data=False).graph.initializer
    external = [tensor for tensor in stored if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert len(external) >= 2 * 6
    assert {entry.value for tensor in external for entry in tensor.external_data if entry.key == "location"} == {"model.onnx"}
    files.stored.unlink()
    with pytest.raises(InvalidArtefact):
        EncoderEngine(files.file, files.graph, IN_INT8, 1)


@pytest.mark.parametrize("storage", ["int8", "fp16"])
def test_its_weights_are_constants_of_seven_bits_once_it_is_loaded(storage: Storage, export: Any, tmp_path: Path) -> None:
    files = IntegerFiles(export("Bert"), tmp_path, "int7", storage)
    options = onnx_session._options(1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(files.file, options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx").graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.initializer}
    weights = [node.input[1] for node in loaded.node if node.op_type == "MatMulIntegerToFloat"]
    assert len(weights) == 2 * 6
    assert {values[name].dtype for name in weights} == {np.dtype(np.int8)}
    assert [int(np.abs(values[name]).max()) for name in weights] == [63] * len(weights)


@integers
def test_the_largest_sums_of_integers_are_exact_where_the_processor_is_told_to_have_them(
    precision: Precision, tmp_path: Path
) -> None:
    """All features and all weights at their ends: two products of weights of 8 bits do not fit into 16."""
    inner, width = 512, 8
    weights = np.full((inner, width), 127, np.int8)
    constants = {"w": weights, "s": np.full(width, 1 / 127, np.float32)}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["weights"], axis=1),
        helper.make_node("MatMul", ["x", "weights"], ["y"], "product"),
    ]
    graph = helper.make_graph(
        nodes, "product", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n", inner])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "n", width])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    entry = Graph(file="model.onnx", layout="padded", inputs=(), outputs=(), storage="int8")
    target = tmp_path / VARIANTS[precision].file
    assert VARIANTS[precision].write(tmp_path / "model.onnx", target, entry)
    session = onnxruntime.InferenceSession(target, onnx_session._options(1), providers=["CPUExecutionProvider"])
    x = np.stack([np.full(inner, 3.0), np.full(inner, -2.0)])[None].astype(np.float32)
    is_exact = np.allclose(session.run(None, {"x": x})[0], x.sum(axis=-1, keepdims=True), rtol=1e-5)
    assert is_exact or precision not in integer_precisions()


def test_what_is_not_stored_as_int8_has_no_int8_variant(export: Any, tmp_path: Path) -> None:
    exported = export("Bert")
    target = tmp_path / "model.int8.onnx"
    assert not write_int8(exported.file, target, exported.graph)
    assert not write_int7(exported.file, target, exported.graph)
    half = quantize_weights(exported.file, tmp_path / "model.onnx", exported.graph, "fp16", min_weights=1)
    assert not write_int8(tmp_path / "model.onnx", target, half)
    assert not target.exists()


def test_a_graph_without_int8_products_has_none_either(export: Any, tmp_path: Path) -> None:
    exported = export("Bert")
    untouched = quantize_weights(exported.file, tmp_path / "model.onnx", exported.graph, "int8", min_weights=10**9)
    claimed = untouched.model_copy(update={"storage": "int8"})
    assert not write_int8(tmp_path / "model.onnx", tmp_path / "model.int8.onnx", claimed)


def test_in_int8_what_is_not_finite_stays_so(export: Any, rows: list[Row], tmp_path: Path) -> None:
    files = IntegerFiles(export("Bert"), tmp_path)
    model = onnx.load(files.file)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("embeddings.LayerNorm.bias"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, np.nan, np.float32), tensor.name))
    onnx.save(model, files.file)
    engine = files.session()
    with pytest.raises(Exception, match="finite"):
        engine.run_rows(rows[:1])


def test_products_of_int8_in_fp32_are_those_of_whole_numbers(tmp_path: Path) -> None:
    """As processors with VNNI add them up: with 200 by 100 more than a few hundred times, 16 bits overflow."""
    rng = np.random.default_rng(3)
    inner, width = 512, 8
    x, matrix = rng.integers(0, 256, (1, 3, inner), np.uint8), rng.integers(-127, 128, (inner, width), np.int8)
    x[0, 0], matrix[:, 0] = 255, 127
    scale = rng.uniform(0.5, 2.0, width).astype(np.float32)
    constants = {"w": matrix, "s": scale, "one": np.float32(1), "zero": np.uint8(128), "zeros": np.zeros(width, np.int8)}
    product = helper.make_node(
        "MatMulIntegerToFloat", ["x", "w", "one", "s", "zero", "zeros"], ["y"], domain="com.microsoft"
    )  # fmt: skip
    graph = helper.make_graph(
        [product], "product", [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, inner])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, width])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "int8.onnx")
    write_exact_int8(tmp_path / "int8.onnx", tmp_path / "exact.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "exact.onnx", providers=["CPUExecutionProvider"])
    expected = (x.astype(np.int64) - 128) @ matrix.astype(np.int64) * scale.astype(np.float64)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=2e-6, atol=1e-2)


def halves(folder: Path, *steps: float) -> Path:
    """A graph that multiplies by one number after the other in fp16."""
    nodes = [helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16)]
    for number, _ in enumerate(steps):
        nodes.append(helper.make_node("Mul", ["a" if number == 0 else f"y{number}", f"by{number}"], [f"y{number + 1}"]))
    nodes.append(helper.make_node("Cast", [f"y{len(steps)}"], ["y"], to=TensorProto.FLOAT))
    values = [numpy_helper.from_array(np.float16(step), f"by{number}") for number, step in enumerate(steps)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    made = helper.make_graph(nodes, "halves", inputs, outputs, values)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "half.onnx")
    return folder / "half.onnx"


def computed(file: Path, x: float) -> float:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return float(session.run(None, {"x": np.asarray([x], np.float32)})[0][0])


@pytest.mark.parametrize(("x", "steps"), [(1.2345, (1000.0, 0.001)), (0.1, (3.0, 7.0, 0.1)), (2.0, (1e-4, 1e-4, 1e4))])
def test_the_simulation_rounds_every_result(x: float, steps: tuple[float, ...], tmp_path: Path) -> None:
    expected = np.float16(x)
    for step in steps:
        expected *= np.float16(step)
    write_simulated_fp16(halves(tmp_path, *steps), tmp_path / "rounded.onnx")
    assert computed(tmp_path / "rounded.onnx", x) == float(expected)


def test_what_leaves_fp16_is_seen_which_the_cpu_provider_hides(tmp_path: Path) -> None:
    half = halves(tmp_path, 1000.0, 0.001)
    write_simulated_fp16(half, tmp_path / "rounded.onnx")
    assert np.isfinite(computed(half, 1000.0))
    assert np.isinf(computed(tmp_path / "rounded.onnx", 1000.0))


def test_an_fp16_variant_without_its_mask_is_caught(
    reference: Reference, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "MASKED", 0.0)
    graph = export_graph(tiny_model("Bert"), "row", tmp_path / "model.onnx")
    write_fp16(tmp_path / "model.onnx", tmp_path / "model.fp16.onnx")
    with pytest.raises(ParityFailed, match="rows feel what their neighbours say"):
        FP16_VARIANT.measure(reference, tmp_path / "model.fp16.onnx", graph)


def test_an_fp16_variant_that_cannot_be_loaded_has_failed(reference: Reference, export: Any, tmp_path: Path) -> None:
    (tmp_path / "model.fp16.onnx").write_bytes(b"this is no graph")
    found = FP16_VARIANT.measure(reference, tmp_path / "model.fp16.onnx", export("Bert").graph)
    assert found is not None
    assert (found.parity.passed, found.parity.agreement, found.parity.rows) == (False, 0.0, len(reference.examples))


def test_an_fp16_variant_that_ends_the_process_has_failed_and_ends_none_here(
    reference: Reference, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime ends the process while it opens the fp16 variant of an XLNet."""
    exported = export("Bert")
    assert not ends_its_process(exported.file)
    monkeypatch.setattr(variants, "ends_its_process", ends_its_process)
    monkeypatch.setattr(variants, "OPEN_GRAPH", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    found = FP16_VARIANT.measure(reference, exported.file, exported.graph)
    assert found is not None
    assert (found.parity.passed, found.parity.agreement) == (False, 0.0)

"""The form in fp16: it answers nearly alike, its rows do not feel each other, and its weights are not copied."""

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
from app.core.types import Row
from app.runtime import onnx_session
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.export import external_data as shared
from scripts.export.fp16 import write_half
from scripts.export.optimize import optimize
from scripts.export.quantize_weights import compact
from scripts.export.simulate_fp16 import write_rounded

CPU = choose_provider("cpu")
FP16 = replace(CPU, precision="fp16")


class Forms:
    """A stored graph, its fp16 form, and what shows how that rounds."""

    def __init__(self, exported: Any, folder: Path, storage: str = "int8") -> None:
        optimize(exported.file, folder / "optimized.onnx")
        self.stored, self.half, self.rounded = folder / "model.onnx", folder / "model.fp16.onnx", folder / "rounded.onnx"
        if storage == "fp32":
            self.graph = exported.graph
            (folder / "optimized.onnx").rename(self.stored)
        else:
            self.graph = compact(folder / "optimized.onnx", self.stored, exported.graph, storage, min_weights=1)  # type: ignore[arg-type]
        write_half(self.stored, self.half)
        write_rounded(self.half, self.rounded)

    def fp32(self) -> EncoderEngine:
        return EncoderEngine(self.stored, self.graph, CPU, 1)

    def fp16(self) -> EncoderEngine:
        return EncoderEngine(self.rounded, self.graph, FP16, 1)


def logits(session: EncoderEngine, rows: list[Row]) -> np.ndarray:
    return np.stack([one["logits"] for one in session.run_rows(rows)])


@pytest.mark.parametrize("family", ["Bert", "Roberta", "Electra", "DistilBert", "Albert"])
@pytest.mark.parametrize("storage", ["int8", "fp16", "fp32"])
def test_it_answers_nearly_as_in_fp32(family: str, storage: str, export: Any, rows: list[Row], tmp_path: Path) -> None:
    forms = Forms(export(family), tmp_path, storage)
    expected = logits(forms.fp32(), rows)
    form = EncoderEngine(forms.half, forms.graph, FP16, 1)
    for session in (form, forms.fp16()):
        errors = np.abs(logits(session, rows) - expected)
        assert 0 < errors.mean() < 0.02 * expected.std()


def test_what_other_rows_say_changes_nothing(export: Any, rows: list[Row], tmp_path: Path) -> None:
    session, words = Forms(export("Bert"), tmp_path).fp16(), random.Random(7)
    others = [replace(row, input_ids=[2, *words.choices(range(4, 14), k=row.num_tokens - 2), 3]) for row in rows]
    for kept in (0, 1):
        mixed = [row if number % 2 == kept else other for number, (row, other) in enumerate(zip(rows, others, strict=True))]
        before, after = logits(session, rows), logits(session, mixed)
        np.testing.assert_array_equal(before[kept::2], after[kept::2])
        assert not np.array_equal(before[1 - kept :: 2], after[1 - kept :: 2])


def test_all_between_the_inputs_and_the_logits_is_fp16(export: Any, tmp_path: Path) -> None:
    model = onnx.load(Forms(export("Bert"), tmp_path).half)
    kinds = {one.name: one.type.tensor_type.elem_type for one in onnx.shape_inference.infer_shapes(model).graph.value_info}
    products = [node.output[0] for node in model.graph.node if node.op_type in ("MatMul", "Softmax", "LayerNormalization")]
    assert len(products) > 2 * 9
    assert {kinds[one] for one in products} == {TensorProto.FLOAT16}
    assert [one.type.tensor_type.elem_type for one in model.graph.output] == [TensorProto.FLOAT]
    assert {one.type.tensor_type.elem_type for one in model.graph.input} == {TensorProto.INT64}
    onnx.checker.check_model(model)


@pytest.mark.parametrize("storage", ["int8", "fp16", "fp32"])
def test_weights_are_read_out_of_the_file_beside_it(
    storage: str, export: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "MIN_SHARED_BYTES", 1)
    forms = Forms(export("Bert"), tmp_path, storage)
    held = onnx.load(forms.half, load_external_data=False).graph.initializer
    sharing = [one for one in held if one.data_location == TensorProto.EXTERNAL]
    assert {entry.value for one in sharing for entry in one.external_data if entry.key == "location"} == {"model.onnx"}
    assert max((len(one.raw_data) for one in held if len(one.dims) == 2), default=0) == 0
    whole = onnx.load(forms.half)
    assert len(whole.SerializeToString()) > 1.2 * forms.half.stat().st_size
    expected = logits(forms.fp32(), rows)
    assert np.abs(logits(EncoderEngine(forms.half, forms.graph, FP16, 1), rows) - expected).max() < 0.1 * expected.std()
    forms.stored.unlink()
    with pytest.raises(InvalidArtefact):
        EncoderEngine(forms.half, forms.graph, FP16, 1)


@pytest.mark.parametrize("storage", ["int8", "fp16", "fp32"])
def test_weights_are_fp16_constants_once_it_is_loaded(storage: str, export: Any, tmp_path: Path) -> None:
    forms = Forms(export("Bert"), tmp_path, storage)
    options = onnx_session._options(1)
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(forms.rounded, options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx").graph
    assert "DequantizeLinear" not in {node.op_type for node in loaded.node}
    made = {name for node in loaded.node for name in node.output}
    weights = [node.input[1] for node in loaded.node if node.op_type in ("MatMul", "FusedMatMul") and node.input[1] not in made]
    values = {one.name: numpy_helper.to_array(one) for one in loaded.initializer}
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
    write_half(tmp_path / "model.onnx", tmp_path / "model.fp16.onnx")
    write_rounded(tmp_path / "model.fp16.onnx", tmp_path / "rounded.onnx")
    session = EncoderEngine(tmp_path / "rounded.onnx", graph, FP16, 1)
    first, beside = Row([1, 3], [0, 0]), [Row([5, 5, 5], [0, 0, 0]), Row([9, 8], [0, 0])]
    for other in beside:
        np.testing.assert_array_equal(session.run_rows([first, other])[0]["logits"], [[4, 5], [4, 5]])
    model = onnx.load(tmp_path / "model.fp16.onnx")
    mask = next(one for one in model.graph.initializer if one.name == "masked")
    assert numpy_helper.to_array(mask) - np.float16(100) > -np.inf

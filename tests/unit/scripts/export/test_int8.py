"""The form that multiplies int8: it answers nearly alike, its rows do not feel each other, and its weights are not copied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from app.core.errors import InvalidArtefact
from app.core.types import Row
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider, has_int8
from scripts.export import external_data as shared
from scripts.export.int8 import write_integer
from scripts.export.optimize import optimize
from scripts.export.quantize_weights import compact

INT8 = replace(choose_provider("cpu"), precision="int8")
needs_int8 = pytest.mark.skipif(not has_int8(), reason="this processor does not multiply int8 exactly")


class Forms:
    """The compact graph and its integer form, in one folder."""

    def __init__(self, exported: Any, folder: Path) -> None:
        optimize(exported.file, folder / "optimized.onnx")
        self.compact, self.integer = folder / "model.onnx", folder / "model.int8.onnx"
        self.graph = compact(folder / "optimized.onnx", self.compact, exported.graph, "int8", min_weights=1)
        assert write_integer(self.compact, self.integer, self.graph)

    def sessions(self) -> tuple[EncoderEngine, EncoderEngine]:
        fp32 = EncoderEngine(self.compact, self.graph, choose_provider("cpu"), 1)
        return fp32, EncoderEngine(self.integer, self.graph, INT8, 1)


@needs_int8
@pytest.mark.parametrize("family", ["Bert", "Roberta", "Electra", "DistilBert", "Albert"])
def test_it_answers_nearly_as_in_fp32(family: str, export: Any, rows: list[Row], tmp_path: Path) -> None:
    fp32, int8 = Forms(export(family), tmp_path).sessions()
    expected = np.stack([one["logits"] for one in fp32.run_rows(rows)])
    errors = np.abs(np.stack([one["logits"] for one in int8.run_rows(rows)]) - expected)
    assert 0 < errors.mean() < 0.1 * expected.std()


@needs_int8
def test_a_row_does_not_feel_its_neighbours(export: Any, rows: list[Row], tmp_path: Path) -> None:
    _, int8 = Forms(export("Bert"), tmp_path).sessions()
    together = int8.run_rows(rows)
    for row, beside in zip(rows, together, strict=True):
        np.testing.assert_allclose(int8.run_rows([row])[0]["logits"], beside["logits"], atol=1e-5)


def test_every_int8_product_but_the_head_is_one_of_integers(export: Any, tmp_path: Path) -> None:
    forms = Forms(export("Bert"), tmp_path)
    kinds = [node.op_type for node in onnx.load(forms.integer).graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 2 * 6  # two layers of six
    assert kinds.count("QuantizeLinear") == 2 * 4  # query, key and value share one
    weights = {node.input[1] for node in onnx.load(forms.integer).graph.node if node.op_type == "MatMul"}
    assert not any(name in {one.name for one in onnx.load(forms.compact).graph.initializer} for name in weights)


@needs_int8
def test_large_weights_are_read_out_of_the_compact_graph(
    export: Any, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "MIN_SHARED_BYTES", 1)
    forms = Forms(export("Bert"), tmp_path)
    fp32, int8 = forms.sessions()
    assert abs(int8.run_rows(rows)[0]["logits"] - fp32.run_rows(rows)[0]["logits"]).max() < 0.5
    stored = onnx.load(forms.integer, load_external_data=False).graph.initializer
    external = [one for one in stored if one.data_location == onnx.TensorProto.EXTERNAL]
    assert len(external) >= 2 * 6
    assert {entry.value for one in external for entry in one.external_data if entry.key == "location"} == {"model.onnx"}
    forms.compact.unlink()
    with pytest.raises(InvalidArtefact):
        EncoderEngine(forms.integer, forms.graph, INT8, 1)


def test_what_is_not_stored_as_int8_has_no_integer_form(export: Any, tmp_path: Path) -> None:
    exported = export("Bert")
    target = tmp_path / "model.int8.onnx"
    assert not write_integer(exported.file, target, exported.graph)
    half = compact(exported.file, tmp_path / "model.onnx", exported.graph, "fp16", min_weights=1)
    assert not write_integer(tmp_path / "model.onnx", target, half)
    assert not target.exists()


def test_a_graph_without_int8_products_has_none_either(export: Any, tmp_path: Path) -> None:
    exported = export("Bert")
    untouched = compact(exported.file, tmp_path / "model.onnx", exported.graph, "int8", min_weights=10**9)
    claimed = untouched.model_copy(update={"storage": "int8"})
    assert not write_integer(tmp_path / "model.onnx", tmp_path / "model.int8.onnx", claimed)


@needs_int8
def test_what_is_not_finite_stays_so(export: Any, rows: list[Row], tmp_path: Path) -> None:
    forms = Forms(export("Bert"), tmp_path)
    model = onnx.load(forms.integer)
    for one in model.graph.initializer:
        if one.name.endswith("embeddings.LayerNorm.bias"):
            one.CopyFrom(onnx.numpy_helper.from_array(np.full(one.dims, np.nan, np.float32), one.name))
    onnx.save(model, forms.integer)
    engine = EncoderEngine(forms.integer, forms.graph, INT8, 1)
    with pytest.raises(Exception, match="finite"):
        engine.run_rows(rows[:1])

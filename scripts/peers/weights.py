"""The published model as a folder that transformers and its kin can read: so that others are measured with the same weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from app.core.errors import InvalidArtefact
from app.core.manifest import Manifest, read_manifest

WEIGHT_OF_NODE = re.compile(r"/(?P<module>.+)/(?:MatMul|Gemm)(?:_\d+)?")
HEAD_SIZE = 32
"""Features of an attention head: of MiniLM, and not to be seen in a graph's weights."""


def write_transformers_folder(published: Path, target: Path) -> None:
    """Write config, safetensors, tokenizer and a plain ONNX export (`onnx/model.onnx`) of a published BERT classifier.

    Args:
        published: a version's folder.
        target: the folder to fill; it need not exist.

    Raises:
        InvalidArtefact: the graph is not that of a BERT with a classifier.
    """
    import torch
    import transformers

    from scripts.export.export import export_graph

    manifest = read_manifest(published)
    weights = graph_weights(published / manifest.graph.file)
    if "bert.embeddings.word_embeddings.weight" not in weights or "classifier.weight" not in weights:
        raise InvalidArtefact(f"{published} is no BERT classifier; others can be compared on such models only")
    model = transformers.BertForSequenceClassification(_config(manifest, weights)).eval()
    state = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
    model.load_state_dict({**model.state_dict(), **state}, strict=True)
    missing = {name for name, _ in model.named_parameters()} - set(state)
    if missing:
        raise InvalidArtefact(f"{published} lacks the weights of {', '.join(sorted(missing))}")
    model.save_pretrained(target)
    definition = (published / manifest.tokenizer).read_text(encoding="utf-8")
    (target / "tokenizer.json").write_text(definition, encoding="utf-8")
    transformers.BertTokenizerFast(
        tokenizer_file=str(target / "tokenizer.json"), model_max_length=manifest.max_tokens
    ).save_pretrained(target)  # fmt: skip
    (target / "onnx").mkdir()
    export_graph(model, "row", target / "onnx" / "model.onnx", may_pack=False)


def graph_weights(file: Path) -> dict[str, np.ndarray]:
    """Weights of a graph in fp32, by the names that they had in torch; matrices in torch's order (outputs, inputs)."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(file).graph
    stored = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    values = {name: value.astype(np.float32) for name, value in stored.items() if value.dtype in (np.float32, np.float16)}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            values[node.output[0]] = _dequantized(node, stored)
        elif node.op_type == "Cast" and node.input[0] in stored:
            values[node.output[0]] = stored[node.input[0]].astype(np.float32)
    scales = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.input[1:]}
    weights = {
        name.removeprefix("model."): value for name, value in values.items() if name.startswith("model.") and name not in scales
    }
    for node in graph.node:
        match = WEIGHT_OF_NODE.fullmatch(node.name)
        if node.op_type == "MatMul" and match and node.input[1] in values:
            weights[f"{match['module'].replace('/', '.')}.weight"] = values[node.input[1]].T
    return weights


def _dequantized(node: Any, stored: dict[str, np.ndarray]) -> np.ndarray:
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    quantized, scale = stored[node.input[0]], stored[node.input[1]]
    shape = [-1 if dimension == axis else 1 for dimension in range(quantized.ndim)]
    value: np.ndarray = quantized.astype(np.float32) * scale.reshape(shape)
    return value


def _config(manifest: Manifest, weights: dict[str, np.ndarray]) -> Any:
    import transformers

    words, hidden = weights["bert.embeddings.word_embeddings.weight"].shape
    labels = manifest.task_options["labels"]
    layers = {name.split(".")[3] for name in weights if name.startswith("bert.encoder.layer.")}
    return transformers.BertConfig(
        vocab_size=words,
        hidden_size=hidden,
        num_hidden_layers=len(layers),
        num_attention_heads=hidden // HEAD_SIZE,
        intermediate_size=weights["bert.encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=weights["bert.embeddings.position_embeddings.weight"].shape[0],
        type_vocab_size=weights["bert.embeddings.token_type_embeddings.weight"].shape[0],
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )

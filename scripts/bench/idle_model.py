"""A model that computes next to nothing behind a real tokenizer: what is left of a request is the service around the engine."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from app.core.manifest import MANIFEST, Graph, Manifest, Output, Parity, describe_file, read_manifest
from app.tasks.base import Encoded
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, TextClassification
from app.tasks.tokenizer import Tokenizer

NAME = "idle"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TEXT = "What is asked when it is loaded."


def publish_idle(like: Path, models: Path) -> Path:
    """Write `models/idle/1`, which has the tokenizer, the labels and the length of the classifier in the folder `like`, and
    thinks all labels equal.

    Returns:
        The folder.
    """
    model = read_manifest(like)
    folder = models / NAME / "1"
    folder.mkdir(parents=True)
    shutil.copy(like / model.tokenizer, folder / "tokenizer.json")
    _write_graph(folder / "model.onnx", len(model.task_options["labels"]))
    _write_golden(folder, model)
    files = {path.name: describe_file(path) for path in sorted(folder.iterdir())}
    manifest = Manifest(
        name=NAME,
        version=1,
        task="text-classification",
        description="Computes next to nothing, for benchmarks.",
        created=model.created,
        base_model="none",
        max_tokens=model.max_tokens,
        graph=Graph(
            file="model.onnx", layout="padded", inputs=INPUTS, outputs=(Output(name="logits", axis="row"),),
            pad_token_id=model.graph.pad_token_id, storage="fp32",
        ),
        task_options={"labels": model.task_options["labels"]},
        parity={"fp32": Parity(rows=1, agreement=1.0, max_abs_error=0.0, passed=True)},
        files=files,
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return folder


def _write_graph(path: Path, num_labels: int) -> None:
    """Logits (rows, labels) of zero: the mask summed over its tokens, times nothing."""
    from onnx import TensorProto, helper, numpy_helper, save

    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "S"]) for name in INPUTS]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", num_labels])
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["mask", "axis"], ["counts"], keepdims=1),
        helper.make_node("Mul", ["counts", "nothing"], ["logits"]),
    ]
    constants: dict[str, np.ndarray[Any, Any]] = {
        "axis": np.array([1], np.int64),
        "nothing": np.zeros((1, num_labels), np.float32),
    }
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, NAME, inputs, [output], initializers)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _write_golden(folder: Path, model: Manifest) -> None:
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json", model.max_tokens)
    task = TextClassification(tokenizer, model.task_options["labels"])
    options = ClassificationOptions()
    golden: list[dict[str, Any]] = []
    for encoded in task.encode([ClassificationItem(TEXT)], options):
        if isinstance(encoded, Encoded):
            zeros = [{"logits": np.zeros(len(model.task_options["labels"]), np.float32)}]
            golden.append({"item": {"text": TEXT}, "answer": asdict(task.decode(encoded, zeros, options))})
    (folder / "golden.json").write_text(json.dumps(golden, indent=2) + "\n", encoding="utf-8")

"""A published version as a checkpoint of transformers again, for a training to begin with: its graph holds its weights.

Nothing is kept for this beside the graph: what publishing rounded away (int8, fp16) is lost, and so is the optimizer's state.
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from onnx import NodeProto, helper, numpy_helper

from app.core.errors import InvalidSettings
from app.core.manifest import Graph, Manifest, read_manifest
from app.runtime.onnx_session import FoldedGraph
from scripts.export import pooling
from scripts.export.export import sample_rows, spread
from scripts.export.published import OpenVersion, open_folder
from scripts.export.torch_reference import TorchRunner
from scripts.tasks.spec import CheckpointParts, TrainingTask
from scripts.training.evaluation import largest_error
from scripts.training.small_data import output_layer

TOLERANCE = 2e-3
"""Of a logit, or of the largest logit where that is more than 1: what another order of sums may do to a whole model."""
USUAL_HEADS = (64, 32)
"""Sizes of an attention head that are tried first."""
DISTILBERT_LAYER = re.compile(r"(distilbert|body)\.transformer\.(ffn\.)?(\w+?)(?:_(\d+))?")
"""Packed, its layers are computed without their own names: the second layer's `q_lin` is called `transformer.q_lin_1`."""


@dataclass(frozen=True)
class StoredWeights:
    """What a graph stores, by the module of the torch model that it was made from."""

    modules: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """Path of the module, as `bert.encoder.layer.0.output.dense`, to its `weight` and `bias`, laid out as torch has them."""
    epsilons: list[float] = field(default_factory=list)
    """Of the normalizations."""
    operators: set[str] = field(default_factory=set)

    @property
    def activation(self) -> str:
        """Of the feed-forward layers, as transformers calls it."""
        if self.operators & {"Erf", "Gelu"}:
            return "gelu"
        return "relu" if "Relu" in self.operators else "gelu_new"

    @property
    def body(self) -> str:
        """What stands before the body's weights: its family or, where the whole model is of ours, `body`; empty without any."""
        return next((path.partition(".")[0] for path in self.modules if ".embeddings." in path), "")

    def family(self, graph: Graph) -> str:
        """How transformers calls the body."""
        if self.body != "body":
            return self.body
        signs = {".relative_attention_bias": "mpnet", ".transformer.layer.": "distilbert", ".embeddings_project": "electra"}
        found = (family for sign, family in signs.items() if any(sign in path for path in self.modules))
        return next(found, "roberta" if graph.position_offset else "bert")

    def num_layers(self, prefix: str) -> int:
        """Layers below a module."""
        return len({match[1] for path in self.modules if (match := re.match(rf"{re.escape(prefix)}\.layer\.(\d+)\.", path))})

    def shape(self, path: str) -> tuple[int, ...]:
        return tuple(self.modules[path]["weight"].shape)


def read_weights(file: Path, graph: Graph) -> StoredWeights:
    """The weights of a graph in fp32, as the service computes with them.

    They are found by the names of the operators that use them: the exporter gives equal tensors one name.

    Raises:
        InvalidArtefact: the graph cannot be loaded.
    """
    if graph.storage == "fp32":
        return _weights_of(onnx.load(file))
    with FoldedGraph(file) as folded:
        return _weights_of(onnx.load(folded))


def _weights_of(model: onnx.ModelProto) -> StoredWeights:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = StoredWeights()
    for node in model.graph.node:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        arrays = [numpy_helper.to_array(constants[name]) if name in constants else None for name in node.input]
        stored.operators.add(node.op_type)
        if node.op_type == "LayerNormalization":
            stored.epsilons.append(float(attributes.get("epsilon", 1e-5)))
        for kind, array in _parameters(node, arrays, attributes):
            # the same module again is one whose weights several layers share
            stored.modules.setdefault(_module_of(node.name), {}).setdefault(kind, array)
    return stored


def _parameters(
    node: NodeProto, arrays: list[np.ndarray | None], attributes: Mapping[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """What an operator holds of its module, as torch lays it out; `arrays` are its constant inputs."""
    match node.op_type, arrays:
        case "MatMul", [None, np.ndarray(ndim=2) as weight]:
            yield "weight", weight.T
        case "Add", [np.ndarray(ndim=1) as bias, None] | [None, np.ndarray(ndim=1) as bias]:
            yield "bias", bias
        case "Gather", [np.ndarray(ndim=2) as table, None]:
            yield "weight", table
        case "LayerNormalization", [None, np.ndarray() as weight, np.ndarray() as bias]:
            yield from (("weight", weight), ("bias", bias))
        case "Gemm", [None, np.ndarray() as weight, *bias]:
            yield "weight", weight if attributes.get("transB") else weight.T
            yield from (("bias", array) for array in bias if array is not None)


def _module_of(name: str) -> str:
    """Path of the module that an operator was made from: `/model/bert/pooler/dense/Gemm` is of `bert.pooler.dense`."""
    path = ".".join(name.strip("/").split("/")[:-1]).removeprefix("model.")
    layer = DISTILBERT_LAYER.fullmatch(path)
    if layer is None or path.startswith(f"{layer[1]}.transformer.layer."):
        return path
    part = layer[2] or ("attention." if layer[3].endswith("_lin") else "")
    return f"{layer[1]}.transformer.layer.{layer[4] or 0}.{part}{layer[3]}"


# --- from weights to a config


def _config(stored: StoredWeights, manifest: Manifest) -> dict[str, Any]:
    """Keyword arguments of the family's config; most graphs do not say the number of attention heads."""
    family, body = stored.family(manifest.graph), stored.body
    words, positions = (stored.shape(f"{body}.embeddings.{kind}_embeddings") for kind in ("word", "position"))
    layers = f"{body}.{'transformer' if family == 'distilbert' else 'encoder'}"
    inner, hidden = stored.shape(f"{layers}.layer.0.{'ffn.lin1' if family == 'distilbert' else 'intermediate.dense'}")
    config: dict[str, Any] = {
        "vocab_size": words[0],
        "max_position_embeddings": positions[0],
        "pad_token_id": manifest.graph.pad_token_id,
        "hidden_size": hidden,
        "num_hidden_layers": stored.num_layers(layers),
    }
    if family == "distilbert":
        return {**config, "hidden_dim": inner, "activation": stored.activation}
    config |= {"intermediate_size": inner, "hidden_act": stored.activation, "layer_norm_eps": stored.epsilons[0]}
    if family == "electra":
        config["embedding_size"] = words[1]
    if family == "mpnet":
        buckets, num_heads = stored.shape(f"{body}.encoder.relative_attention_bias")
        config |= {"relative_attention_num_buckets": buckets, "num_attention_heads": num_heads}
    else:
        config["type_vocab_size"] = stored.shape(f"{body}.embeddings.token_type_embeddings")[0]
    return config


FAMILIES = ("bert", "distilbert", "electra", "mpnet", "roberta")
"""As transformers calls them; models in XLM-RoBERTa's and CamemBERT's way are RoBERTa's to it, but for their tokenizers."""


def _head_counts(hidden: int) -> list[int]:
    """How many attention heads there may be, the usual ones first: a graph does not say it in one way."""
    usual = [hidden // size for size in USUAL_HEADS if hidden % size == 0]
    return [*usual, *(count for count in range(1, hidden + 1) if hidden % count == 0 and count not in usual)]


# --- the checkpoint


@dataclass(frozen=True)
class RestoredVersion:
    """What a training begins with."""

    location: str
    """A folder that transformers loads; it is removed when the process ends."""
    manifest: Manifest
    """Of the version."""
    tokenizer: str
    """The JSON text of its tokenizer."""

    @property
    def name(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"


def restore(folder: Path) -> RestoredVersion:
    """Write a published version as a checkpoint of transformers, once it is shown to answer as the version does.

    Raises:
        InvalidSettings: its graph is of a kind that cannot be read back.
        InvalidArtefact: the folder is broken or altered.
    """
    return _restored(folder.resolve(), read_manifest(folder).as_json())


@cache  # a sweep begins many times with one version
def _restored(folder: Path, manifest: str) -> RestoredVersion:
    version = open_folder(folder)
    model = _torch_model(version)
    location = tempfile.mkdtemp(prefix="hooper-")
    atexit.register(shutil.rmtree, location, ignore_errors=True)
    model.save_pretrained(location)
    return RestoredVersion(location, version.manifest, (folder / version.manifest.tokenizer).read_text(encoding="utf-8"))


def _torch_model(version: OpenVersion) -> Any:
    stored = read_weights(version.graph_file, version.manifest.graph)
    family = stored.family(version.manifest.graph)
    if family not in FAMILIES:
        raise InvalidSettings(
            f"{version.name} cannot be trained further: its graph is of none of the kinds that can be read back"
            f" ({', '.join(FAMILIES)}); begin with the base model that it was made from, {version.manifest.base_model}"
        )
    rows = spread(sample_rows(version.training, version.tokenizer(), version.manifest.task_options))
    expected = [version.session.run_together([row])[0] for row in rows]
    tolerance = TOLERANCE * max(1.0, *(float(np.abs(output["logits"]).max(initial=0.0)) for output in expected))
    reason = "no number of attention heads gives its answers"
    try:
        config = _config(stored, version.manifest)
        known = config.get("num_attention_heads")
        for num_heads in [known] if known else _head_counts(config["hidden_size"]):
            model = _built(stored, version, {**config, "num_attention_heads": num_heads})
            runner = TorchRunner(model, version.training.output_axis)
            errors = (largest_error([output], [runner.run_alone(row)]) for row, output in zip(rows, expected, strict=True))
            if all(error <= tolerance for error in errors):
                return model
    except (LookupError, RuntimeError, ValueError) as error:  # a weight is absent, or of another shape than its module's
        reason = str(error).strip().splitlines()[-1].strip() or type(error).__name__
    raise InvalidSettings(
        f"{version.name} cannot be trained further: as {family} its graph is not what transformers computes ({reason});"
        f" begin with the base model that it was made from, {version.manifest.base_model}"
    )


def _built(stored: StoredWeights, version: OpenVersion, body: Mapping[str, Any]) -> Any:
    """The torch model with the stored weights.

    Raises:
        LookupError: one of its weights is not stored.
        RuntimeError: one has another shape.
    """
    manifest, training = version.manifest, version.training
    head = training.head_config(manifest.task_options)
    config = transformers.AutoConfig.for_model(stored.family(manifest.graph), **body, **head)
    if manifest.graph.outputs[0].pooling == "mean":
        setattr(config, pooling.KEY, "mean")
    auto: Any = getattr(transformers, training.auto_class)
    parts = CheckpointParts("", manifest.max_tokens, layout=training.published_layout(manifest))
    model = training.assemble(auto.from_config(config, attn_implementation="eager"), parts)
    prefix = f"{model.base_model_prefix}."
    weights = {}
    for name, _ in model.named_parameters():
        path, _, kind = name.rpartition(".")
        # what transformers calls behind the hooks of a packed graph has lost its body's name
        module = stored.modules.get(path) or stored.modules.get(path.removeprefix(prefix)) or {}
        if kind not in module and name.removeprefix(prefix).startswith(training.optional_weights or ("\0",)):
            continue
        if kind not in module:
            raise LookupError(f"{name} is not stored")
        weights[name] = torch.from_numpy(module[kind].copy())  # ONNX's own arrays cannot be written to
    model.load_state_dict(weights, strict=False)
    pooling.restore_pooling(model)
    return model.eval()


# --- the head in a new training


def adopt_head(model: Any, task: TrainingTask, task_options: Mapping[str, Any], version: Manifest) -> bool:
    """Keep the head of the version that a model was restored from, with its outputs in the order of the new labels; or draw
    it anew from torch's seed, where it was for something else.

    Returns:
        Whether it was kept.
    """
    output = output_layer(model)
    carried = None
    if output is not None and version.task == task.name:
        weight, bias = (tensor.detach().numpy() for tensor in (output.weight, output.bias))
        carried = task.carried_head(weight, bias, version.task_options, task_options)
    with torch.no_grad():
        if output is not None and carried is not None:
            for tensor, array in zip((output.weight, output.bias), carried, strict=True):
                tensor.copy_(torch.from_numpy(array.astype(np.float32)))
            return True
        for name, part in model.named_children():
            if name != model.base_model_prefix:
                part.apply(model._init_weights)
    return False

"""A verified graph: export > optimize > verify > quantize > verify > variants, and which engines run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.core.manifest import EngineTrial, Graph, Parity
from app.core.types import Device, Precision
from scripts.export.engine_trials import told_engines
from scripts.export.export import Exported, export_model
from scripts.export.formatting import Say, describe_parity
from scripts.export.optimize import MODEL, move, num_bytes, quantize_weights
from scripts.export.variants import VARIANTS
from scripts.export.verify import EXPORTED, QUANTIZED, Reference
from scripts.tasks.spec import Axis
from scripts.training.evaluation import Predictions


@dataclass(frozen=True)
class VerifiedGraph:
    """A graph file that passed its gates."""

    file: Path
    graph: Graph
    parity: dict[str, Parity]
    """Precision to the parity of this very file."""
    exported: Parity
    """Parity before the weights were quantized."""
    predictions: Predictions
    """The file's own answers to the held-out examples, in fp32."""
    variants: Mapping[Precision, Path] = field(default_factory=dict)
    """Files of variants for one precision, each beside `file` and bound to it."""
    engines: Mapping[Device, EngineTrial] = field(default_factory=dict)
    """What each engine of this environment made of the file."""


def make_graph(
    model: Any,
    axis: Axis,
    storage: Literal["int8", "fp16", "fp32"],
    reference: Reference,
    folder: Path,
    say: Say,
    exported: Exported | None = None,
) -> VerifiedGraph:
    """Turn a torch model into a graph in `folder`.

    Args:
        exported: the graph in that folder, where a trial made it of this very model; none: it is made.

    Raises:
        ParityFailed: the graph does not reproduce the model.
        ExportFailed: the model's architecture cannot become a graph.
    """
    if exported is None:
        exported = export_model(model, axis, reference.rows, folder)
        say("export", describe_layout(exported.graph))
    file, graph = exported.file, exported.graph
    say("optimize", f"{_megabytes(file)}, standard operators only")
    before, predictions = reference.verify(file, graph, EXPORTED)
    measured = {"fp32": before}
    say("verify", describe_parity(before))
    if storage != "fp32":
        graph = quantize_weights(file, folder / MODEL, graph, storage)
        file = folder / MODEL
        say("quantize", f"{_megabytes(file)}, weights as {graph.storage}")
        measured["fp32"], predictions = reference.verify(file, graph, QUANTIZED)
        say("verify", describe_parity(measured["fp32"]))
    else:
        file = move(file, folder / MODEL)  # variants are bound to it by the name under which it is published
    engines = told_engines(file, graph, reference.rows, say)
    # what did not run there in a process of its own shall not end this one
    if "openvino" not in engines or engines["openvino"].runs:
        _measure_bf16(file, graph, reference, measured, say)
    variants = _make_variants(file, graph, reference, measured, say)
    return VerifiedGraph(file, graph, measured, before, predictions, variants, engines)


def _measure_bf16(file: Path, graph: Graph, reference: Reference, measured: dict[str, Parity], say: Say) -> None:
    """Note what OpenVINO makes of it in bf16, where that can be measured here."""
    if (bf16 := reference.measure_bf16(file, graph)) is not None:
        measured["bf16"] = bf16.parity
        say("", _verdict("bf16", bf16.parity))


def _make_variants(
    file: Path, graph: Graph, reference: Reference, measured: dict[str, Parity], say: Say
) -> dict[Precision, Path]:
    """The variants that the graph has and that passed their gates; what was measured is noted."""
    passed: dict[Precision, Path] = {}
    for precision, variant in VARIANTS.items():
        target = file.with_name(variant.file)
        if graph.storage not in variant.storages or not variant.write(file, target, graph):
            continue
        comparison = variant.measure(reference.sample(variant.max_rows), target, graph)
        measured[precision] = comparison.parity
        say("", _verdict(precision, comparison.parity))
        if comparison.parity.passed:
            passed[precision] = target
    return passed


def evaluation_of(verified: VerifiedGraph, reference: Reference, is_labelled: bool = True) -> dict[str, Any]:
    """What evaluation.json says of every model: metrics of the graph's own answers, calibration, and its parity."""
    metrics: dict[str, Any] = {"headline": {}}
    if is_labelled:
        metrics = reference.training.evaluate(verified.predictions.answers, reference.examples, reference.task_options)
    names = reference.training.metric_names(reference.task_options)
    return {
        **metrics,
        **({"metric_names": dict(names)} if names and is_labelled else {}),
        **({"calibration": dict(reference.calibration)} if is_labelled and reference.calibration else {}),
        "parity": {name: parity.model_dump() for name, parity in verified.parity.items()},
        "parity_before_compaction": verified.exported.model_dump(),
    }


def describe_layout(graph: Graph) -> str:
    return f"{graph.layout} layout, inputs {', '.join(graph.inputs)}"


def _verdict(precision: str, parity: Parity) -> str:
    return f"in {precision}, {describe_parity(parity)}" + ("" if parity.passed else "; it failed, and will not be used")


def _megabytes(file: Path) -> str:
    return f"{num_bytes(file) / 1e6:.1f} MB"

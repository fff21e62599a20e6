"""A verified graph: export > optimize > verify > compact > verify, and which engines run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.core.manifest import EngineTrial, Graph, Parity
from app.core.types import Device, Precision
from scripts.export.engine_trials import describe_engines, try_engines
from scripts.export.export import Exported, export_model
from scripts.export.optimize import move, num_bytes, quantize_weights
from scripts.export.publish import MODEL
from scripts.export.variants import VARIANTS
from scripts.export.verify import EXPORTED, QUANTIZED, Reference
from scripts.tasks.spec import Axis
from scripts.training.evaluation import Predictions

Say = Callable[[str, str], None]
"""Tells the person which arrow the line is at, and what came of it."""


@dataclass(frozen=True)
class VerifiedGraph:
    """A graph file that passed its gates."""

    file: Path
    graph: Graph
    parity: dict[str, Parity]
    """Precision to the parity of this very file."""
    exported: Parity
    """Parity before the weights were compacted."""
    predictions: Predictions
    """The file's own answers to the held-out examples, in fp32."""
    variants: Mapping[Precision, Path] = field(default_factory=dict)
    """Files of forms made for one precision, each beside `file` and bound to it."""
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
        exported = export_model(model, axis, [row for one in reference.predictions.encoded for row in one.rows], folder)
        say("export", describe_layout(exported.graph))
    file, graph = exported.file, exported.graph
    say("optimize", f"{_megabytes(file)}, standard operators only")
    before, predictions = reference.verify(file, graph, EXPORTED)
    parity = before
    say("verify", describe_parity(before))
    if storage != "fp32":
        graph = quantize_weights(file, folder / MODEL, graph, storage)
        file = folder / MODEL
        say("compact", _megabytes(file))
        parity, predictions = reference.verify(file, graph, QUANTIZED)
        say("verify", describe_parity(parity))
    else:
        file = move(file, folder / MODEL)  # forms are bound to it by the name under which it is published
    measured = {"fp32": parity}
    engines = try_engines(file, graph, [row for one in reference.predictions.encoded for row in one.rows])
    for sentence in describe_engines(engines):
        say("", sentence)
    # what did not run there in a process of its own shall not end this one
    bf16 = reference.measure_bf16(file, graph) if "openvino" not in engines or engines["openvino"].runs else None
    if bf16 is not None:
        measured["bf16"] = bf16.parity
        say("", f"in bf16: {_verdict(bf16.parity)}")
    variants = _make_variants(file, graph, reference, measured, say)
    return VerifiedGraph(file, graph, measured, before, predictions, variants, engines)


def _make_variants(
    file: Path, graph: Graph, reference: Reference, measured: dict[str, Parity], say: Say
) -> dict[Precision, Path]:
    """The forms that the graph has and that passed their gates; what was measured is noted."""
    passed: dict[Precision, Path] = {}
    for form in VARIANTS.values():
        target = file.with_name(form.file)
        if graph.storage not in form.storages or not form.write(file, target, graph):
            continue
        found = form.measure(reference.drawn(form.max_rows), target, graph)
        if found is None:
            say("", f"in {form.precision}: not measured, since {form.missing}; left out")
            continue
        measured[form.precision] = found.parity
        say("", f"in {form.precision}: {_verdict(found.parity)}")
        if found.parity.passed:
            passed[form.precision] = target
    return passed


def describe_layout(graph: Graph) -> str:
    return f"{graph.layout} layout, inputs {', '.join(graph.inputs)}"


def _verdict(parity: Parity) -> str:
    return describe_parity(parity) + ("" if parity.passed else "; it failed, and will not be used")


def describe_parity(parity: Parity) -> str:
    decided = f"{parity.agreement_to_show:.2%} of {parity.rows:,} decided as by torch"
    return f"{decided}, largest logit error {parity.max_abs_error:.2g}"


def _megabytes(file: Path) -> str:
    return f"{num_bytes(file) / 1e6:.1f} MB"

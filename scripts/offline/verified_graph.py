"""A verified graph: export > optimize > verify > compact > verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.core.manifest import Graph, Parity
from app.core.types import Precision
from scripts.offline.compact import compact
from scripts.offline.evaluate import Predictions
from scripts.offline.export import export_graph
from scripts.offline.integer import write_integer
from scripts.offline.optimize import optimize
from scripts.offline.publish import INTEGER_MODEL, MODEL
from scripts.offline.tasks.base import Axis
from scripts.offline.verify import COMPACT, EXPORTED, Reference

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


def make_graph(
    model: Any, axis: Axis, storage: Literal["int8", "fp16", "fp32"], reference: Reference, folder: Path, say: Say
) -> VerifiedGraph:
    """Turn a torch model into a graph in `folder`.

    Raises:
        ParityFailed: the graph does not reproduce the model.
        ExportFailed: the model's architecture cannot become a graph.
    """
    file = folder / "optimized.onnx"
    graph = export_graph(model, axis, folder / "exported.onnx")
    say("export", f"{graph.layout} layout, inputs {', '.join(graph.inputs)}")
    optimize(folder / "exported.onnx", file)
    say("optimize", f"{_megabytes(file)}, standard operators only")
    exported, predictions = reference.verify(file, graph, EXPORTED)
    parity = exported
    say("verify", describe_parity(exported))
    if storage != "fp32":
        graph = compact(file, folder / MODEL, graph, storage)
        file = folder / MODEL
        say("compact", _megabytes(file))
        parity, predictions = reference.verify(file, graph, COMPACT)
        say("verify", describe_parity(parity))
    measured = {"fp32": parity}
    bf16 = reference.measure_bf16(file, graph)
    if bf16 is not None:
        measured["bf16"] = bf16.parity
        say("", f"in bf16: {_verdict(bf16.parity)}")
    variants = _integer_form(file, graph, reference, measured, say)
    return VerifiedGraph(file, graph, measured, exported, predictions, variants)


def _integer_form(
    file: Path, graph: Graph, reference: Reference, measured: dict[str, Parity], say: Say
) -> dict[Precision, Path]:
    """The form that multiplies int8, if the graph has one and it passed its gate; what was measured is noted."""
    target = file.with_name(INTEGER_MODEL)
    if not write_integer(file, target, graph):
        return {}
    int8 = reference.measure_int8(target, graph)
    if int8 is None:
        say("", "in int8: not measured, since this processor does not multiply int8 exactly; left out")
        return {}
    measured["int8"] = int8.parity
    say("", f"in int8: {_verdict(int8.parity)}")
    return {"int8": target} if int8.parity.passed else {}


def _verdict(parity: Parity) -> str:
    return describe_parity(parity) + ("" if parity.passed else "; it failed, and will not be used")


def describe_parity(parity: Parity) -> str:
    return f"{parity.agreement:.2%} of {parity.rows:,} decided as by torch, largest logit error {parity.max_abs_error:.2g}"


def _megabytes(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"

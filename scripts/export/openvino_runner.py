"""OpenVINO by itself: how a graph is tried, and bf16 parity measured, where ONNX Runtime's plug-in leaves the processor out.

The package `openvino` is in no extra, since most people need the plug-in only: `pip install openvino` turns this on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.core.manifest import Graph
from app.core.types import Precision, Row, RowOutput
from app.runtime.layout import plan, split, to_tensors
from app.runtime.onnx_session import FoldedGraph
from scripts.training.evaluation import token_batches


def is_installed() -> bool:
    """Whether the package `openvino` is there."""
    return importlib.util.find_spec("openvino") is not None


def has_openvino_bf16() -> bool:
    """Whether the package `openvino` is installed and this processor multiplies bf16 through it."""
    if not is_installed():
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoRunner:
    """The engine and the precision that the service uses on Intel processors. Satisfies `RowRunner`."""

    def __init__(self, graph_file: Path, graph: Graph, precision: Precision = "bf16") -> None:
        import openvino

        self._graph = graph
        config = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
        with FoldedGraph(graph_file) as folded:
            self._compiled: Any = openvino.Core().compile_model(str(folded), "CPU", config)

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        """Outputs of the rows, in their order; batched by length under a token budget."""
        outputs: list[RowOutput] = [{}] * len(rows)
        for batch in token_batches(rows):
            for index, output in zip(batch, self._run([rows[i] for i in batch]), strict=True):
                outputs[index] = output
        return outputs

    def _run(self, rows: Sequence[Row]) -> list[RowOutput]:
        where = plan([row.num_tokens for row in rows], self._graph.layout, fixed_shapes=True)
        tensors = to_tensors(rows, where, self._graph, fixed_shapes=True)
        produced = self._compiled(dict(tensors))
        return split([produced[output.name] for output in self._graph.outputs], rows, where, self._graph)

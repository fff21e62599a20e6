"""optimize: constants folded, dead nodes, settled branches and duplicates gone, and still nothing but standard operators."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime
from onnx.external_data_helper import uses_external_data

from app.core.errors import SetupError
from scripts.export.fold_branches import write_without_branches
from scripts.export.graph_files import save

ERRORS_ONLY = 3
STANDARD = frozenset({"", "ai.onnx"})


def optimize(source: Path, target: Path) -> None:
    """Write a cleaned copy of the graph.

    ONNX Runtime's basic level keeps the meaning and the operators of a graph on every provider; the levels above put in
    kernels of its own that only its CPU and CUDA providers know.

    Raises:
        SetupError: the result would need operators outside the ONNX standard.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    weights = target.with_name(f"{target.name}.unfiltered")
    if weights_file_of_exporter(source):
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights.name)
    with tempfile.TemporaryDirectory(prefix="hooper-") as folder:
        straight = write_without_branches(source, Path(folder) / source.name)
        onnxruntime.InferenceSession(straight, options, providers=["CPUExecutionProvider"])
    model = onnx.load(target)  # with its weights
    weights.unlink(missing_ok=True)
    used = {node.domain for node in model.graph.node}
    if not used <= STANDARD:
        raise SetupError(f"{source.name} needs operators outside the ONNX standard: {', '.join(sorted(used - STANDARD))}")
    # the runtime lists all domains it knows; other engines may refuse those they do not
    kept = [one for one in model.opset_import if one.domain in STANDARD]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    save(model, target)


def weights_file_of_exporter(source: Path) -> bool:
    """Whether the exporter wrote the weights beside the graph."""
    return any(map(uses_external_data, onnx.load(source, load_external_data=False).graph.initializer))

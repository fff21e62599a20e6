"""What the forms of a decoder's products cost in processor time: in fp32, and in int8 with scales for blocks or for rows.

    python -m scripts.bench.int8_forms --output docs/measurements/int8_forms.json

The products are those of a decoder of random weights, one after the other, without what stands between them. The forms are
written as publishing writes them, run on one thread and take turns; the medians are told.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from app.core.errors import SetupError
from scripts.bench.report import measurement_parser, run_measurement
from scripts.export.seq2seq.int8 import write_int8_step
from scripts.export.seq2seq.rows import write_int8_rows

FORMS: Mapping[str, Callable[[Path, Path], bool]] = {"blocks": write_int8_step, "rows": write_int8_rows}
RUNS = 12
"""Of a form in a turn."""


def write_products(file: Path, width: int, inner: int, num_layers: int, num_words: int) -> None:
    """A graph from `x`, (rows, width), to `y`, (rows, words), of matrices of random numbers."""
    rng = np.random.default_rng(0)
    shapes = [(inner, width), (width, inner)] * num_layers + [(num_words, width)]
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []
    for number, (outputs, inputs) in enumerate(shapes):
        matrix = rng.normal(size=(outputs, inputs)).astype(np.float32) / np.float32(inputs**0.5)
        weights.append(numpy_helper.from_array(matrix, f"w{number}"))
        name = f"x{number + 1}" if number < len(shapes) - 1 else "y"
        nodes.append(helper.make_node("Gemm", [f"x{number}" if number else "x", f"w{number}"], [name], name, transB=1))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", num_words])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "products", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), file)


def open_on_one_thread(file: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def milliseconds(sessions: Mapping[str, Any], x: np.ndarray, turns: int) -> dict[str, float]:
    """Of this thread's processor time for a run of each."""
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(turns):
        for name, session in sessions.items():
            began = time.thread_time()
            for _ in range(RUNS):
                session.run(None, {"x": x})
            taken[name].append((time.thread_time() - began) / RUNS * 1000)
    return {name: median(values) for name, values in taken.items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All numbers of rows in turn.

    Raises:
        SetupError: the matrices are too small for int8.
    """
    shape = {"width": options.width, "inner": options.inner, "num_layers": options.layers, "num_words": options.words}
    with tempfile.TemporaryDirectory(prefix="hooper-forms-") as folder:
        source = Path(folder, "decoder.onnx")
        write_products(source, **shape)
        sessions = {"fp32": open_on_one_thread(source)}
        for name, write in FORMS.items():
            file = source.with_name(f"{name}.onnx")
            if not write(source, file):
                raise SetupError("these matrices are so small that they stay in fp32")
            sessions[name] = open_on_one_thread(file)
        told = {}
        for num_rows in options.rows:
            x = np.random.default_rng(num_rows).normal(size=(num_rows, options.width)).astype(np.float32)
            ms = milliseconds(sessions, x, options.turns)
            told[str(num_rows)] = {
                name: {"ms": round(value, 3), "times_as_fast_as_fp32": round(ms["fp32"] / value, 2)}
                for name, value in ms.items()
            }
    return {**shape, "turns": options.turns, "rows": told, "complaints": []}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.bench.int8_forms", __doc__)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[1, 4, 16, 64, 256], metavar="N", help="how many (1 4 16 64 256)"
    )
    parser.add_argument("--width", type=int, default=256, metavar="N", help="numbers of a row (256)")
    parser.add_argument("--inner", type=int, default=1024, metavar="N", help="numbers of a row between two products (1024)")
    parser.add_argument("--layers", type=int, default=6, metavar="N", help="pairs of products (6)")
    parser.add_argument("--words", type=int, default=8000, metavar="N", help="numbers of a row in the end (8000)")
    parser.add_argument("--turns", type=int, default=7, metavar="N", help="of each form (7)")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())

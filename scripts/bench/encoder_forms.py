"""What a model's texts, and the matrix products of an encoder, cost in processor time: in fp32, and in whole numbers.

    python -m scripts.bench.encoder_forms --model models/sentiment/2 --output docs/measurements/encoder_forms.json

Everything is run on one thread, and fp32 and int7 take turns; the medians are told. Products are those of an encoder of random
weights, with what rounds their rows and without attention; texts go through the engine as the service runs it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from app.core.artefact import open_artefact
from app.core.errors import SetupError
from app.core.manifest import Graph, Output
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.providers import choose_provider
from scripts.bench.engine import rows_of
from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.texts import Profile, profile_texts
from scripts.export.optimize import INT7_MODEL, MODEL, quantize_weights
from scripts.export.variants import write_int7

TURN_TOKENS = 1024
"""Of a form in a turn, at least."""
Run = Callable[[], object]


def write_products(file: Path, width: int, inner: int, num_layers: int) -> Graph:
    """A graph from `x` to `y`, both (1, tokens, width), whose layers multiply as those of BERT; random weights, as int8."""
    rng = np.random.default_rng(0)
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []

    def product(x: str, y: str, inputs: int, outputs: int) -> None:
        matrix = rng.normal(size=(inputs, outputs)).astype(np.float32) / np.float32(inputs**0.5)
        weights.append(numpy_helper.from_array(matrix, f"{y}_weights"))
        nodes.append(helper.make_node("MatMul", [x, f"{y}_weights"], [y], y))

    x = "x"
    for layer in range(num_layers):
        for name in ("query", "key", "value"):
            product(x, f"{name}{layer}", width, width)
        nodes.append(helper.make_node("Sum", [f"{name}{layer}" for name in ("query", "key", "value")], [f"read{layer}"]))
        product(f"read{layer}", f"attended{layer}", width, width)
        product(f"attended{layer}", f"inner{layer}", width, inner)
        x = "y" if layer == num_layers - 1 else f"layer{layer}"
        product(f"inner{layer}", x, inner, width)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "tokens", width]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], weights)
    plain = file.with_name("plain.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), plain)
    entry = Graph(file=file.name, layout="packed", inputs=("x",), outputs=(Output(name="y", axis="token"),), storage="fp32")
    return quantize_weights(plain, file, entry)


def engines_of(folder: Path, graph: Graph) -> dict[str, EncoderEngine]:
    """Both forms of a graph, on one thread.

    Raises:
        SetupError: it has no products that int7 multiplies.
    """
    if not write_int7(folder / graph.file, folder / INT7_MODEL, graph):
        raise SetupError("this graph has no large products with weights that are stored as int8 or fp16")
    processor = choose_provider("cpu")
    return {
        "fp32": EncoderEngine(folder / graph.file, graph, processor, 1),
        "int7": EncoderEngine(folder / INT7_MODEL, graph, replace(processor, precision="int7"), 1),
    }


def milliseconds(runs: Mapping[str, Run], num_tokens: int, turns: int) -> dict[str, Any]:
    """Of this thread's processor time for a run of each, and how many times as fast int7 is in the middle one of the turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    count = max(1, -(-TURN_TOKENS // num_tokens))
    for _ in range(turns):
        for name, run in runs.items():
            began = time.thread_time()
            for _ in range(count):
                run()
            taken[name].append((time.thread_time() - began) / count * 1000)
    ratios = [fp32 / int7 for fp32, int7 in zip(taken["fp32"], taken["int7"], strict=True)]
    told = {name: {"ms": round(median(values), 3)} for name, values in taken.items()}
    return {"tokens": num_tokens, **told, "times_as_fast": round(median(ratios), 2)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Products of each number of tokens, then lists of texts.

    Raises:
        SetupError: the matrices or the model have no form in int7.
        InvalidArtefact: the model's folder is broken.
    """
    shape = {"width": options.width, "inner": options.inner, "num_layers": options.layers}
    with tempfile.TemporaryDirectory(prefix="hooper-forms-") as folder:
        graph = write_products(Path(folder, MODEL), **shape)
        # an EncoderEngine takes rows of tokens; of these graphs its sessions are run with numbers
        sessions = {name: engine.share_session() for name, engine in engines_of(Path(folder), graph).items()}
        products = {}
        for num_tokens in options.tokens:
            x = np.random.default_rng(num_tokens).normal(size=(1, num_tokens, options.width)).astype(np.float32)
            runs = {name: lambda session=session, x=x: session.run(["y"], {"x": x}, None) for name, session in sessions.items()}
            products[str(num_tokens)] = milliseconds(runs, num_tokens, options.turns)
    return {**shape, "turns": options.turns, "products": products, "texts": measure_texts(options), "complaints": []}


def measure_texts(options: argparse.Namespace) -> dict[str, Any]:
    """Lists of so many texts of the profile `short`, and of one of `long`."""
    artefact = open_artefact(options.model)
    graph = artefact.manifest.graph
    counts: list[tuple[Profile, int]] = [*(("short", count) for count in options.texts), ("long", 1)]
    with tempfile.TemporaryDirectory(prefix="hooper-forms-") as folder:
        shutil.copy(artefact.folder / graph.file, folder)
        engines = engines_of(Path(folder), graph)
        told = {}
        for profile, count in counts:
            rows = rows_of(artefact.folder, profile_texts(profile)[:count])
            runs = {name: lambda engine=engine, rows=rows: engine.run_rows(rows) for name, engine in engines.items()}
            told[f"{count} {profile}"] = milliseconds(runs, sum(row.num_tokens for row in rows), options.turns)
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.bench.encoder_forms", __doc__)
    parser.add_argument("--model", type=Path, default=Path("models/sentiment/2"), metavar="FOLDER", help="a version's folder")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 64, 256, 1024], metavar="N", help="of products")
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 4, 32], metavar="N", help="of a list (1 4 32)")
    parser.add_argument("--width", type=int, default=384, metavar="N", help="numbers of a token (384)")
    parser.add_argument("--inner", type=int, default=1536, metavar="N", help="numbers of a token between two products (1536)")
    parser.add_argument("--layers", type=int, default=6, metavar="N", help="layers of six products (6)")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="of each form (5)")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())

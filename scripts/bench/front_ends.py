"""Front ends against each other: requests a second with 1, 2, 4, … before an engine that costs nothing and before a real one.

One is the service as it is by default, in a single process. All numbers take turns, several times, since a machine's pace
changes. The callers run on the same cores, in processes of their own. Linux only; needs the extra `train`. On a quiet machine:

    python -m scripts.bench.front_ends --output scripts/bench/results/front_ends.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from app.core.manifest import MANIFEST, Graph, Output, Parity, describe_file, read_manifest
from scripts.bench.load import LoadResult, closed_loop, text_requests
from scripts.bench.report import measurement_parser, run_measurement
from scripts.bench.service import Address, ProcessStats, start_service
from scripts.bench.texts import profile_texts

IDLE_MODEL = "idle"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def measure_turn(options: argparse.Namespace, models: Path, model: str, front_ends: int, pool: Executor) -> dict[str, Any]:
    """Start the service with so many front ends, put load on it and look at its processes.

    Raises:
        SetupError: it does not get ready.
    """
    settings = {
        "HOOPER_MODELS": str(models), "HOOPER_SERVE": model, "HOOPER_DEVICE": options.device,
        "HOOPER_ENGINE_THREADS": str(options.threads), "HOOPER_FRONT_ENDS": str(front_ends),
    }  # fmt: skip
    with start_service(settings) as service:
        processes = engine_and_front_ends(service.stats)
        before = [process.cpu_s() for process in processes]
        result = _load(options, service.address, model, pool)
        spent = [process.cpu_s() - cpu_s for process, cpu_s in zip(processes, before, strict=True)]
        memory_mib = sum(process.memory_mib() for process in {service.stats, *processes})
    engine_cores, *front_end_cores = (round(cpu_s / (options.seconds + options.warm_up), 2) for cpu_s in spent)
    return {
        "front_ends": front_ends,
        "requests_per_s": round(result.requests_per_s, 1),
        "p50_ms": round(result.percentile_ms(0.5), 2),
        "p99_ms": round(result.percentile_ms(0.99), 2),
        "failed": result.num_failed,
        "engine_cores": engine_cores,  # of a single process, all that it did
        "front_end_cores": front_end_cores,  # how evenly connections were dealt out
        "memory_mib": memory_mib,  # resident, of all processes; what they share is counted in each
    }


def engine_and_front_ends(supervisor: ProcessStats) -> list[ProcessStats]:
    """The engine process, then its front ends; the one process where there are none."""
    children = supervisor.children()
    engine = [process for process in children if "app.processes.engine" in process.command()]
    return [*(engine or [supervisor]), *(process for process in children if "app.processes.front_end" in process.command())]


def _load(options: argparse.Namespace, address: Address, model: str, pool: Executor) -> LoadResult:
    """From several processes at once, each with its share of the connections."""
    requests = text_requests("/v1/classify", profile_texts(options.profile), model=model)
    connections = max(1, options.connections // options.callers)
    calls = [
        pool.submit(call, address, requests[number :: options.callers], connections, options.seconds, options.warm_up)
        for number in range(options.callers)
    ]
    return LoadResult([sample for call in calls for sample in call.result().samples], options.seconds)


def call(address: Address, requests: Sequence[bytes], connections: int, seconds: float, warm_up_s: float) -> LoadResult:
    return asyncio.run(closed_loop(address, requests, connections, seconds, warm_up_s))


def summary(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians by number of front ends, with their ratios to that of the fewest, then every turn."""
    numbers = sorted({turn["front_ends"] for turn in turns})
    rates = {number: median(turn["requests_per_s"] for turn in turns if turn["front_ends"] == number) for number in numbers}
    fewest = rates[min(rates)]
    return {
        "median_requests_per_s": {str(number): round(rate, 1) for number, rate in rates.items()},
        "times_the_fewest": {str(number): round(rate / fewest, 2) if fewest else None for number, rate in rates.items()},
        "turns": list(turns),
    }


def publish_idle_model(like: Path, models: Path) -> Path:
    """Write `models/idle/1`: the tokenizer, labels and length of the classifier in the folder `like`, all labels equal. What is
    left of a request to it is the service around the engine."""
    model = read_manifest(like)
    folder = models / IDLE_MODEL / "1"
    folder.mkdir(parents=True)
    shutil.copy(like / model.tokenizer, folder / model.tokenizer)
    labels = model.task_options["labels"]
    _write_idle_graph(folder / "model.onnx", len(labels))
    golden = json.loads((like / model.golden).read_text(encoding="utf-8"))[:1]
    golden[0]["answer"] = {"labels": [{"label": label, "score": 1 / len(labels)} for label in labels]}
    (folder / model.golden).write_text(json.dumps(golden), encoding="utf-8")
    graph = Graph(
        file="model.onnx", layout="padded", inputs=INPUTS, outputs=(Output(name="logits", axis="row"),),
        pad_token_id=model.graph.pad_token_id, storage="fp32",
    )  # fmt: skip
    idle = type(model)(
        name=IDLE_MODEL, version=1, task=model.task, description="Computes next to nothing, for benchmarks.",
        created=model.created, base_model="none", max_tokens=model.max_tokens, graph=graph, tokenizer=model.tokenizer,
        golden=model.golden, task_options={"labels": labels},
        parity={"fp32": Parity(rows=1, agreement=1.0, max_abs_error=0.0, passed=True)},
        files={path.name: describe_file(path) for path in sorted(folder.iterdir())},
    )  # fmt: skip
    (folder / MANIFEST).write_text(idle.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return folder


def _write_idle_graph(path: Path, num_labels: int) -> None:
    """Logits (rows, labels) of zero: the mask summed over its tokens, times nothing."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "S"]) for name in INPUTS]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", num_labels])
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["mask", "axis"], ["counts"], keepdims=1),
        helper.make_node("Mul", ["counts", "nothing"], ["logits"]),
    ]
    axis, nothing = np.array([1], np.int64), np.zeros((1, num_labels), np.float32)
    initializers = [numpy_helper.from_array(axis, "axis"), numpy_helper.from_array(nothing, "nothing")]
    graph = helper.make_graph(nodes, IDLE_MODEL, inputs, [output], initializers)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every number of front ends in turn, for either model."""
    real = options.model.partition("/")[0]
    turns: dict[str, list[dict[str, Any]]] = {IDLE_MODEL: [], real: []}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(options.callers, context) as pool:
        publish_idle_model(options.models / options.model, Path(folder))
        for number in range(options.turns):
            for models, name in ((Path(folder), IDLE_MODEL), (options.models, real)):
                # back and forth, so that no number always comes when the machine is warm
                for front_ends in options.front_ends if number % 2 == 0 else options.front_ends[::-1]:
                    turns[name].append(measure_turn(options, models, name, front_ends, pool))
                    print(f"{name:10} {json.dumps(turns[name][-1])}", file=sys.stderr, flush=True)
    settings = {
        key: getattr(options, key) for key in ("model", "device", "threads", "profile", "connections", "callers", "seconds")
    }
    num_failed = sum(turn["failed"] for of_model in turns.values() for turn in of_model)
    complaints = [f"{num_failed} requests failed"] if num_failed else []
    return {**settings, "models": {name: summary(of_model) for name, of_model in turns.items()}, "complaints": complaints}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = measurement_parser("scripts.bench.front_ends", __doc__, "models", "device", "threads", "profile")
    parser.add_argument("--model", default="sentiment/2", metavar="NAME/VERSION", help="classifies texts (sentiment/2)")
    parser.add_argument("--front-ends", nargs="+", type=int, default=[1, 2, 4, 8, 16], metavar="N", help="(1 2 4 8 16)")
    parser.add_argument("--connections", type=int, default=128, metavar="N", help="of all callers together (128)")
    parser.add_argument("--callers", type=int, default=4, metavar="N", help="processes that call (4)")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="S", help="of each load (8)")
    parser.add_argument("--warm-up", type=float, default=2.0, metavar="S", help="before it, not counted (2)")
    parser.add_argument("--turns", type=int, default=3, metavar="N", help="times of everything (3)")
    return run_measurement(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Which engines of this environment run a graph, tried in a process of its own, since an engine may crash.

python -m scripts.export.engine_trials DEVICE GRAPH_FILE < trial.json  # what the process reads and writes: see `try_engines`
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from app.core.errors import ProviderUnavailable
from app.core.manifest import EngineTrial, Graph
from app.core.types import Device, Precision, Row, RowOutput
from app.runtime.encoder_engine import EncoderEngine
from app.runtime.layout import plan, requested, split, to_tensors
from app.runtime.onnx_session import FoldedGraph, cause_of
from app.runtime.providers import Provider, choose_provider
from scripts.export.formatting import Say
from scripts.training.evaluation import RowRunner, largest_error, token_batches


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
        placement = plan([row.num_tokens for row in rows], self._graph.layout, fixed_shapes=True)
        tensors = to_tensors(rows, placement, self._graph, fixed_shapes=True)
        produced, graph = self._compiled(dict(tensors)), requested(self._graph, rows)
        return split([produced[output.name] for output in graph.outputs], rows, placement, graph)


LARGEST_ERROR = 0.01
"""Of a logit in fp32: an engine that is farther from the CPU computes something else."""
MAX_ROWS = 32
MAX_TOKENS = 4096
"""Of all rows: a trial takes seconds."""
TIMEOUT_S = 300.0

logger = logging.getLogger(__name__)

OpenRunner = Callable[[Precision], RowRunner]


def try_engines(graph_file: Path, graph: Graph, rows: Sequence[Row], timeout_s: float = TIMEOUT_S) -> dict[Device, EngineTrial]:
    """Let each engine of this environment run the rows, alone and together, in the shapes that the service uses.

    Args:
        graph_file: the .onnx file, which the CPU was seen to run.
        rows: as they will be sent; a sample of many lengths is taken.
    """
    job = json.dumps({"graph": graph.model_dump(mode="json"), "rows": [_as_json(row) for row in _sample(rows)]})
    trials = {device: _try_in_subprocess(device, graph_file, job, timeout_s) for device in other_engines()}
    return {"cpu": EngineTrial(runs=True), **{device: trial for device, trial in trials.items() if trial is not None}}


def other_engines() -> list[Device]:
    """What this environment has beside the CPU."""
    devices: list[Device] = []
    if _is_available("openvino") or is_installed():
        devices.append("openvino")
    if _is_available("cuda"):
        devices.append("cuda")
    return devices


def judge(
    open_engine: OpenRunner, precisions: Sequence[Precision], rows: Sequence[Row], expected: Sequence[RowOutput]
) -> EngineTrial:
    """Run the rows in each precision; what decides is the first of them.

    Args:
        precisions: fp32, and others that it has.
        expected: their outputs on the CPU in fp32.
    """
    errors: dict[Precision, float] = {}
    reason = ""
    for precision in precisions:
        try:
            runner = open_engine(precision)
            outputs = [*runner.run_rows(rows), *(runner.run_rows([row])[0] for row in rows)]
            errors[precision] = largest_error([*expected, *expected], outputs)
        except Exception as error:  # each engine raises its own
            reason = reason or f"in {precision}: {cause_of(error)}"
            continue
        if not math.isfinite(errors[precision]):
            del errors[precision]
            reason = reason or f"in {precision} it gives numbers that are not finite"
    decisive = errors.get(precisions[0])
    if decisive is None:
        return EngineTrial(runs=False, reason=reason)
    if decisive > LARGEST_ERROR:
        return EngineTrial(runs=False, reason=f"its logits differ from the CPU's by up to {decisive:.2g}", max_abs_error=errors)
    return EngineTrial(runs=True, max_abs_error=errors)


def told_engines(file: Path, graph: Graph, rows: Sequence[Row], say: Say) -> Mapping[Device, EngineTrial]:
    """As `try_engines`, told in words, too."""
    engines = try_engines(file, graph, rows)
    for sentence in describe_engines(engines):
        say("", sentence)
    return engines


def describe_engines(trials: Mapping[Device, EngineTrial]) -> Iterator[str]:
    """A sentence on each engine but the CPU, which runs what was verified on it."""
    for device, trial in trials.items():
        if device == "cpu":
            continue
        if trial.runs:
            errors = ", ".join(f"{error:.2g} in {precision}" for precision, error in trial.max_abs_error.items())
            yield f"{device} runs it, logits differ from the CPU's by up to {errors}"
        else:
            yield f"{device} does not run it and will not be used: {trial.reason}"


def _try_in_subprocess(device: Device, graph_file: Path, job: str, timeout_s: float) -> EngineTrial | None:
    """None where the process itself failed, so that nothing is known of the engine."""
    # -P and the path: whoever trains may have a package called `scripts` where they stand
    command = [sys.executable, "-P", "-m", "scripts.export.engine_trials", device, str(graph_file.absolute())]
    paths = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        done = subprocess.run(
            command, input=job, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return EngineTrial(runs=False, reason=f"it takes longer than {timeout_s:g} s")
    if done.returncode < 0:
        return EngineTrial(runs=False, reason=f"its process ended with signal {-done.returncode}")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        logger.warning("%s was not tried: %s", device, lines[-1] if lines else f"exit code {done.returncode}")
        return None
    return EngineTrial.model_validate_json(done.stdout.splitlines()[-1])


def _is_available(device: Device) -> bool:
    try:
        choose_provider(device)
    except ProviderUnavailable:
        return False
    return True


def _sample(rows: Sequence[Row]) -> list[Row]:
    """Rows of lengths evenly spread from the shortest to the longest."""
    ordered = sorted(rows, key=lambda row: row.num_tokens)
    places = sorted({round(place) for place in np.linspace(0, len(ordered) - 1, MAX_ROWS)})
    sample = [ordered[place] for place in places]
    while len(sample) > 2 and sum(row.num_tokens for row in sample) > MAX_TOKENS:
        sample = [*sample[:-1:2], sample[-1]]
    return sample


def _as_json(row: Row) -> dict[str, list[int]]:
    return {name: [int(value) for value in values] for name, values in asdict(row).items()}


def _engine_factory(device: Device, graph_file: Path, graph: Graph) -> tuple[OpenRunner, list[Precision]]:
    if device == "openvino" and not _is_available("openvino"):
        precisions: list[Precision] = ["fp32", "bf16"] if has_openvino_bf16() else ["fp32"]
        return (lambda precision: OpenVinoRunner(graph_file, graph, precision)), precisions
    provider = choose_provider(device)
    precisions = ["fp32"] if provider.precision == "fp32" else ["fp32", provider.precision]
    return (lambda precision: EncoderEngine(graph_file, graph, Provider(device, precision, "tried"))), precisions


def main() -> None:
    device: Device = sys.argv[1]  # type: ignore[assignment]
    graph_file, job = Path(sys.argv[2]), json.load(sys.stdin)
    graph, rows = Graph(**job["graph"]), [Row(**row) for row in job["rows"]]
    expected = EncoderEngine(graph_file, graph, choose_provider("cpu")).run_rows(rows)
    open_engine, precisions = _engine_factory(device, graph_file, graph)
    sys.stdout.write(judge(open_engine, precisions, rows, expected).model_dump_json() + "\n")


if __name__ == "__main__":
    main()

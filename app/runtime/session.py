"""OnnxSession: one graph on one execution provider, run on a thread of its own."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from app.core.errors import EngineFailed, HooperError, InvalidArtefact, ProviderUnavailable
from app.core.manifest import Graph
from app.core.types import Row, RowOutput, RunResult
from app.runtime.layout import num_computed_tokens, plan, split, to_tensors
from app.runtime.machine import available_cores, openvino_devices
from app.runtime.providers import Provider

FOLDED = "folded.onnx"
ERRORS_ONLY = 3


class OnnxSession:
    """Runs rows through a graph. After it exists, the provider in use is the one that was asked for.

    Satisfies `app.batching.batcher.Runner`. Runs one batch at a time: the engine uses all its threads for it.
    """

    def __init__(self, graph_file: Path, graph: Graph, provider: Provider, num_threads: int = 0) -> None:
        """
        Args:
            graph_file: the .onnx file.
            graph: its entry in the manifest.
            provider: what to run it on; see `choose_provider`.
            num_threads: threads of the engine; 0: all cores this process may use.

        Raises:
            InvalidArtefact: the graph cannot be loaded, or its inputs are not the manifest's.
            ProviderUnavailable: the engine would not use the provider.
        """
        self.graph, self.provider = graph, provider
        self.num_threads = num_threads or available_cores()
        with ExitStack() as stack:
            file = stack.enter_context(FoldedGraph(graph_file)) if graph.storage != "fp32" else graph_file
            self._session = _open(file, provider, self.num_threads)
        inputs = {one.name for one in self._session.get_inputs()}
        if inputs != set(graph.inputs):
            raise InvalidArtefact(f"{graph_file} takes {sorted(inputs)}, the manifest says {sorted(graph.inputs)}")
        self._outputs = [output.name for output in graph.outputs]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{graph_file.parent.parent.name}")

    @property
    def execution_providers(self) -> list[str]:
        """The chain really in use, as the engine reports it."""
        reported: list[str] = self._session.get_providers()
        return reported

    async def run(self, rows: Sequence[Row]) -> RunResult:
        """Run a batch on the engine's thread. A row whose output is not finite gets an error in its place."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, rows)

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        """Run a batch here and now: for offline use.

        Raises:
            EngineFailed: an output is not finite.
        """
        outputs = []
        for output in self._run(rows).outputs:
            if isinstance(output, HooperError):
                raise output
            outputs.append(output)
        return outputs

    async def aclose(self) -> None:
        """Wait for the run in progress, then give the engine's memory back."""
        await asyncio.to_thread(self._thread.shutdown)
        del self._session

    def _run(self, rows: Sequence[Row]) -> RunResult:
        began = time.perf_counter()
        outputs, num_computed = self._compute(rows)
        failed = [index for index, output in enumerate(outputs) if isinstance(output, HooperError)]
        if len(rows) > 1:  # what is not finite spreads to whoever shares the tensor row: alone, a row shows its own
            for index in failed:
                (outputs[index],), more = self._compute([rows[index]])
                num_computed += more
        return RunResult(outputs, num_computed, time.perf_counter() - began)

    def _compute(self, rows: Sequence[Row]) -> tuple[list[RowOutput | HooperError], int]:
        """An output or an error for every row, and the tokens it cost."""
        fixed = self.provider.fixed_shapes
        where = plan([row.num_tokens for row in rows], self.graph.layout, fixed)
        tensors = to_tensors(rows, where, self.graph, fixed)
        produced = self._session.run(self._outputs, tensors)
        outputs = split(produced, rows, where, self.graph)
        finite = all(np.isfinite(tensor).all() for tensor in produced)
        return [output if finite else _checked(output) for output in outputs], num_computed_tokens(where)


def _checked(output: RowOutput) -> RowOutput | HooperError:
    if all(np.isfinite(part).all() for part in output.values()):
        return output
    return EngineFailed("the model gave no finite numbers for this input")


def _options(num_threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # int8 is a way of storing weights here, not of multiplying: turn DequantizeLinear into fp32 constants
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _open(file: Path, provider: Provider, num_threads: int) -> onnxruntime.InferenceSession:
    options = _options(num_threads)
    chain: list[Any] | None = None
    if provider.device == "openvino":
        options.add_provider_for_devices(openvino_devices(), _openvino_config(provider, num_threads))
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    else:
        if provider.device != "cpu":
            onnxruntime.preload_dlls()
        chain = _chain(provider)
    try:
        session = onnxruntime.InferenceSession(file, options, providers=chain)
    except Exception as error:  # onnxruntime raises a dozen unrelated types here
        if provider.device == "cpu":
            raise InvalidArtefact(f"{file.name} cannot be loaded: {_first_line(error)}") from error
        raise ProviderUnavailable(f"{provider.execution_provider} cannot run {file.name}: {_first_line(error)}") from error
    if provider.execution_provider not in session.get_providers():
        raise ProviderUnavailable(
            f"{provider.execution_provider} was asked for, but the engine chose {', '.join(session.get_providers())}"
        )
    return session


def _chain(provider: Provider) -> list[Any]:
    if provider.device == "tensorrt":
        cache = {
            "trt_engine_cache_enable": True,
            "trt_timing_cache_enable": True,
            "trt_engine_cache_path": tempfile.gettempdir(),
        }
        return [(provider.execution_provider, cache), "CUDAExecutionProvider", "CPUExecutionProvider"]
    if provider.device == "cuda":
        # TF32 would cost the fp32 parity that the artefact was published with
        return [(provider.execution_provider, {"use_tf32": 0}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def _openvino_config(provider: Provider, num_threads: int) -> dict[str, str]:
    precision = "bf16" if provider.precision == "bf16" else "f32"
    config = {"CPU": {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": str(num_threads)}}
    return {"load_config": json.dumps(config)}


class FoldedGraph:
    """A temporary copy of a graph with its int8 or fp16 weights as fp32, in standard operators only."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._folder = tempfile.TemporaryDirectory(prefix="hooper-")

    def __enter__(self) -> Path:
        folded = Path(self._folder.name) / FOLDED
        options = _options(1)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        try:
            onnxruntime.InferenceSession(self._file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen unrelated types here
            self._folder.cleanup()
            raise InvalidArtefact(f"{self._file} cannot be loaded: {_first_line(error)}") from error
        return folded

    def __exit__(self, *exception: object) -> None:
        self._folder.cleanup()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

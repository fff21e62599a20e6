"""Opening a graph in ONNX Runtime: options, execution providers, and what a session needs of the engine that comes out."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from app.core.errors import InvalidArtefact, ProviderUnavailable
from app.core.manifest import Graph
from app.core.types import Ints
from app.runtime.cuda_graphs import CudaGraphSession, try_capture
from app.runtime.onnx_file import write_with_stored_tables
from app.runtime.providers import Provider, available_cores, openvino_devices
from app.runtime.shared_weights import SharingSession, share
from app.runtime.tensorrt import tensorrt_options

FOLDED, STORED = "folded.onnx", "stored.onnx"
MAX_FOLDED_BYTES = 2_000_000_000
"""Of one file: protobuf ends at 2^31 - 1; what is larger keeps its weights in a second file beside it."""
ERRORS_ONLY = 3
SLOW_FUSIONS = ("SkipLayerNormFusion",)
"""Of ONNX Runtime's CPU provider, which takes nine times as long for a sum and its normalization in one operator as in two."""


PLACE_IN_SOURCE = re.compile(r"(\[ONNXRuntimeError\] : \d+ : \w+ : )?(Exception from \S+|Check '.*' failed at \S+)")


class RunOptions(Protocol):
    """What a run can be told while it runs."""

    terminate: bool


class InputInfo(Protocol):
    """An input of a graph."""

    name: str


class OrtSession(Protocol):
    """What a session needs of `onnxruntime.InferenceSession`."""

    def run(self, outputs: Sequence[str], tensors: Mapping[str, Ints], options: Any, /) -> Sequence[np.ndarray]: ...

    def get_inputs(self) -> Sequence[InputInfo]: ...

    def get_providers(self) -> list[str]: ...


SessionFactory = Callable[[Path, Graph, Provider, int], OrtSession]
"""From a graph's file, its entry in the manifest, what to run it on, and a number of threads, to an engine."""


def open_session(graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
    """The graph in ONNX Runtime, on the provider and nothing else.

    Raises:
        InvalidArtefact: the graph cannot be loaded.
        ProviderUnavailable: the engine would not use the provider.
    """
    with ExitStack() as stack:
        # variants read their weights out of the file beside them, and are loaded as they are: folded on the CPU, fp16 would
        # become fp32 again
        folds = graph.storage != "fp32" and provider.precision not in ("int8", "int7", "fp16")
        # other engines than the CPU's were not tried with tables as they are stored
        keeps_tables = provider.device == "cpu"
        file = stack.enter_context(FoldedGraph(graph_file, keeps_tables)) if folds else graph_file
        session = _open(file, provider, num_threads, _chain(graph_file, graph, provider))
    return _capturing(session, file.name, graph) if provider.captures else session


def open_bound_session(graph_file: Path, provider: Provider, num_threads: int, folds: bool) -> Any:
    """A graph on the processor, for who binds its inputs and outputs.

    Args:
        graph_file, num_threads: as for `open_session`.
        folds: whether its weights are stored as int8 or fp16, and are to become fp32 once.

    Raises:
        InvalidArtefact: the graph cannot be loaded.
    """
    with ExitStack() as stack:
        file = stack.enter_context(FoldedGraph(graph_file)) if folds else graph_file
        return _open(file, provider, num_threads, ["CPUExecutionProvider"])


def _options(num_threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # int8 is a way of storing weights here, not of multiplying: turn DequantizeLinear into fp32 constants
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _open(file: Path, provider: Provider, num_threads: int, chain: list[Any] | None) -> OrtSession:
    options = _options(num_threads)
    if provider.device == "openvino":
        options.add_provider_for_devices(openvino_devices(), _openvino_config(provider, num_threads))
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    elif provider.device != "cpu":
        onnxruntime.preload_dlls()
    weights = share(options, file) if provider.shares_weights else {}
    try:
        left_out = SLOW_FUSIONS if provider.device == "cpu" else ()
        # without `enable_fallback=0`, a provider that fails, at its start or in a run, is silently replaced by the CPU
        session: OrtSession = onnxruntime.InferenceSession(
            file, options, providers=chain, disabled_optimizers=left_out, enable_fallback=0
        )
    except Exception as error:  # onnxruntime raises a dozen unrelated types here
        if provider.device == "cpu":
            raise InvalidArtefact(f"{file.name} cannot be loaded: {_first_line(error)}") from error
        mode = " with HOOPER_CUDA_GRAPHS=true" if provider.captures else ""
        raise ProviderUnavailable(f"{provider.execution_provider} cannot run {file.name}{mode}: {cause_of(error)}") from error
    if provider.execution_provider not in session.get_providers():
        raise ProviderUnavailable(
            f"{provider.execution_provider} was asked for, but the engine chose {', '.join(session.get_providers())}"
        )
    return SharingSession(session, weights) if weights else session


def _capturing(session: OrtSession, name: str, graph: Graph) -> OrtSession:
    """
    Raises:
        ProviderUnavailable: some of the graph cannot be captured.
    """
    engine = CudaGraphSession(session)
    try:
        try_capture(engine, graph)
    except Exception as error:  # onnxruntime raises a dozen unrelated types here
        raise ProviderUnavailable(f"HOOPER_CUDA_GRAPHS=true, but {name} cannot be captured: {_first_line(error)}") from error
    return engine


def _chain(graph_file: Path, graph: Graph, provider: Provider) -> list[Any] | None:
    """Execution providers with their options, each for what the one before it leaves; none: OpenVINO is asked for otherwise."""
    if provider.device == "openvino":
        return None
    # TF32, and in fp16 a normalization that adds up in fp16, would cost the parity that the artefact was published with
    options = {"use_tf32": "0", "enable_skip_layer_norm_strict_mode": "1", "enable_cuda_graph": str(int(provider.captures))}
    cuda = ("CUDAExecutionProvider", options)
    if provider.device == "tensorrt":
        return [(provider.execution_provider, tensorrt_options(graph_file, graph, provider)), cuda, "CPUExecutionProvider"]
    return [cuda, "CPUExecutionProvider"] if provider.device == "cuda" else ["CPUExecutionProvider"]


def _openvino_config(provider: Provider, num_threads: int) -> dict[str, str]:
    precision = "bf16" if provider.precision == "bf16" else "f32"
    config = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": str(num_threads)}
    if num_threads < available_cores():  # it binds threads to the first cores, those of every engine to the same ones
        config["ENABLE_CPU_PINNING"] = "NO"
    return {"load_config": json.dumps({"CPU": config})}


class FoldedGraph:
    """A temporary copy of a graph with its int8 or fp16 weights as fp32, in standard operators only; `keeps_tables`: all but
    embedding tables, of which a batch reads few rows."""

    def __init__(self, file: Path, keeps_tables: bool = False) -> None:
        self._file, self._keeps_tables = file, keeps_tables
        self._folder = tempfile.TemporaryDirectory(prefix="hooper-")

    def __enter__(self) -> Path:
        folded, stored = Path(self._folder.name) / FOLDED, Path(self._folder.name) / STORED
        options = _options(1)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        if self._file.stat().st_size > MAX_FOLDED_BYTES // 4:  # its int8 weights become four times as much
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{FOLDED}.data")
        try:
            source = stored if self._keeps_tables and write_with_stored_tables(self._file, stored) else self._file
            onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
            stored.unlink(missing_ok=True)
        except Exception as error:  # onnxruntime raises a dozen unrelated types here
            self._folder.cleanup()
            raise InvalidArtefact(f"{self._file} cannot be loaded: {_first_line(error)}") from error
        return folded

    def __exit__(self, *exception: object) -> None:
        self._folder.cleanup()


def cause_of(error: Exception) -> str:
    """The line that says what went wrong: OpenVINO begins with the places in its source that the error came by."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not PLACE_IN_SOURCE.fullmatch(line)]
    return (telling or lines or [type(error).__name__])[0]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

"""EncoderEngine: one graph on one execution provider, run on a thread of its own; and sets of them that share threads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from app.core.errors import EngineFailed, EngineLost, HooperError, InvalidArtefact, OutOfMemory
from app.core.manifest import Graph
from app.core.sequences import Batch, StepOutput
from app.core.types import Device, Row, RowOutput
from app.runtime.layout import Plan, check_shapes, num_computed_tokens, plan, requested, split, to_tensors
from app.runtime.onnx_session import OrtSession, RunOptions, SessionFactory, open_session
from app.runtime.providers import Provider, available_cores
from app.runtime.shapes import Part, parts
from app.runtime.thread import EngineThread

CLOSE_S = 5.0
"""Seconds that a run in progress gets to end when its session is closed, and again once it was told to stop."""

FATAL_ONLY = 4
"""Severity for ONNX Runtime's own log: failures are raised, and need not be printed as well."""

MAX_DEFAULT_STREAMS = 4
"""Threads up to which each computes a batch of its own where nothing else is said. Only two were measured."""
PROCESSORS: frozenset[Device] = frozenset({"cpu", "openvino"})
"""Devices whose batches can be computed side by side, since each may have threads of its own."""
IDLE_S = 0.2
"""Seconds that every session gets to end: where one of several was lost, the others have nothing to do, or are told to stop."""

OUT_OF_MEMORY_WORDS = (
    "Failed to allocate memory",  # ONNX Runtime's arena, on the CPU and on CUDA
    "bad_alloc",  # its CPU allocator without an arena, and OpenVINO on a CPU
    "out of memory",  # CUDA's own error, 2
    "is smaller than requested bytes",  # the arena under `gpu_mem_limit`
    "STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
    "OutOfMemory",  # TensorRT
    "out of GPU resources",  # OpenVINO on a GPU, and the next three
    "CL_OUT_OF_RESOURCES",
    "CL_OUT_OF_HOST_MEMORY",
    "CL_MEM_OBJECT_ALLOCATION_FAILURE",
    "Exceeded max size of memory",
    "bytes of memory",  # OpenVINO: "Failed to allocate 74784858112 bytes of memory"
)

logger = logging.getLogger(__name__)


class EncoderEngine:
    """Runs rows through a graph. After it exists, the provider in use is the one that was asked for.

    Satisfies `app.batching.engine.Engine`. Runs one batch at a time: all its threads work on it.
    """

    def __init__(
        self,
        graph_file: Path,
        graph: Graph,
        provider: Provider,
        num_threads: int = 0,
        session_factory: SessionFactory = open_session,
    ) -> None:
        """
        Args:
            graph_file: the .onnx file.
            provider: what to run it on; see `choose_provider`.
            num_threads: threads of the engine; 0: all cores this process may use.

        Raises:
            InvalidArtefact: the graph cannot be loaded, or its inputs are not the manifest's.
            ProviderUnavailable: the engine would not use the provider.
        """
        self.graph, self.provider = graph, provider
        self.num_threads = num_threads or available_cores()
        engine = session_factory(graph_file, graph, provider, self.num_threads)
        inputs = {entry.name for entry in engine.get_inputs()}
        if inputs != set(graph.inputs):
            raise InvalidArtefact(f"{graph_file} takes {sorted(inputs)}, the manifest says {sorted(graph.inputs)}")
        self.execution_providers = engine.get_providers()
        """The chain really in use, as the engine reports it."""
        self._engine: OrtSession | None = engine
        self._required = requested(graph, ())
        self._run_options: RunOptions = onnxruntime.RunOptions()
        self._thread = EngineThread(graph_file.parent.parent.name, self.give_back)

    async def forward(self, batch: Batch) -> StepOutput:
        """Encode a batch on the engine's thread. A row whose output is not finite gets an error in its place.

        Raises:
            OutOfMemory: the engine had no memory for the batch.
            EngineFailed: its outputs have not the shapes that the rows need.
            EngineLost: the thread is gone.
        """
        self._run_options = options = onnxruntime.RunOptions()  # here, so that a run can be stopped before it has begun
        rows = [sequence.row for sequence in batch.sequences]
        return await self._thread.call(lambda: self.run_batch(rows, options))

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        """Run a batch here and now: for offline use.

        Raises:
            EngineFailed: an output is not finite or has not the shape that the rows need.
        """
        return _raise_errors(self.run_batch(rows, onnxruntime.RunOptions()).outputs)

    def run_together(self, rows: Sequence[Row]) -> list[RowOutput]:
        """Run rows in one tensor, here and now, however different their lengths: for offline use.

        Raises:
            EngineFailed: an output is not finite or has not the shape that the rows need.
        """
        where = plan([row.num_tokens for row in rows], self.graph.layout, self.provider.fixed_shapes)
        options = onnxruntime.RunOptions()
        options.log_severity_level = FATAL_ONLY
        return _raise_errors(self._compute_tensor(rows, where, options))

    def release(self, slots: Sequence[int]) -> None:
        """Nothing: an encoder keeps nothing from step to step."""

    def terminate(self) -> None:
        """Tell the run in progress to stop; it does so between two nodes of the graph, not within one."""
        self._run_options.terminate = True

    async def aclose(self, patience_s: float | None = None) -> None:
        """Wait for the run in progress, tell it to stop after `patience_s` seconds, and abandon it after as many more.

        The engine's memory is given back when its run ends, be it later.

        Args:
            patience_s: by default `CLOSE_S`.
        """
        if not await self._thread.close(CLOSE_S if patience_s is None else patience_s, self.terminate):
            logger.error("an engine was abandoned in a run that does not end", extra={"graph": self.graph.file})

    def share_session(self, *_: object) -> OrtSession:
        """Its engine, for another session that computes with the same one at the same time, on a thread of its own."""
        if self._engine is None:
            raise EngineLost("the engine was given back")
        return self._engine

    def give_back(self) -> None:
        """Let go of the graph; nothing can be run any more."""
        self._engine = None

    def run_batch(self, rows: Sequence[Row], options: RunOptions) -> StepOutput:
        """As `forward`, here and now, for whoever has a thread of its own."""
        began = time.perf_counter()
        outputs, num_computed = self._compute(rows, options)
        failed = [index for index, output in enumerate(outputs) if isinstance(output, HooperError)]
        if len(rows) > 1:  # what is not finite spreads to whoever shares the tensor row: alone, a row shows its own
            for index in failed:
                (outputs[index],), more = self._compute([rows[index]], options)
                num_computed += more
        return StepOutput(outputs, num_computed, time.perf_counter() - began)

    def _compute(self, rows: Sequence[Row], options: RunOptions) -> tuple[list[RowOutput | HooperError], int]:
        """An output or an error for every row, and the tokens it cost."""
        lengths, layout = [row.num_tokens for row in rows], self.graph.layout
        if self.provider.exact_shapes:
            tensors = parts(lengths, layout)
        else:
            tensors = [Part(range(len(rows)), plan(lengths, layout, self.provider.fixed_shapes))]
        outputs: dict[int, RowOutput | HooperError] = {}
        for part in tensors:
            computed = self._compute_tensor([rows[index] for index in part.indices], part.where, options)
            outputs.update(zip(part.indices, computed, strict=True))
        return [outputs[index] for index in range(len(rows))], sum(num_computed_tokens(part.where) for part in tensors)

    def _compute_tensor(self, rows: Sequence[Row], where: Plan, options: RunOptions) -> list[RowOutput | HooperError]:
        if self._engine is None:
            raise EngineLost("the engine was given back")
        graph = requested(self.graph, rows) if any(row.extra_outputs for row in rows) else self._required
        try:
            tensors = to_tensors(rows, where, graph, self.provider.fixed_shapes)
            produced = self._engine.run([output.name for output in graph.outputs], tensors, options)
        except Exception as error:  # onnxruntime raises a dozen unrelated types here
            if is_out_of_memory(error):
                raise OutOfMemory(
                    f"the engine had no memory for {len(rows)} rows in {where.height} x {where.width} tokens"
                ) from error
            raise
        check_shapes(produced, tensors, graph)
        outputs = split(produced, rows, where, graph)
        finite = all(np.isfinite(tensor).all() for tensor in produced)
        return [output if finite else _checked(output) for output in outputs]


def _raise_errors(outputs: Sequence[RowOutput | HooperError]) -> list[RowOutput]:
    for output in outputs:
        if isinstance(output, HooperError):
            raise output
    return [output for output in outputs if not isinstance(output, HooperError)]


def _checked(output: RowOutput) -> RowOutput | HooperError:
    if all(np.isfinite(part).all() for part in output.values()):
        return output
    return EngineFailed("the model gave no finite numbers for this input")


@dataclass(frozen=True, slots=True)
class EngineSet:
    """What computes for one model."""

    exclusive: EncoderEngine
    """Has every thread."""
    parallel: Sequence[EncoderEngine] = ()
    """Share the threads. With one each they have one engine together, and the weights lie in memory once more, not for each."""

    @property
    def provider(self) -> Provider:
        return self.exclusive.provider

    @property
    def execution_providers(self) -> list[str]:
        return self.exclusive.execution_providers

    @property
    def num_threads(self) -> int:
        return self.exclusive.num_threads

    @property
    def decoder_provider(self) -> None:
        """None: nothing is written."""

    @property
    def decoder_execution_providers(self) -> list[str]:
        return []

    async def aclose(self, patience_s: float | None = None) -> None:
        """As `EncoderEngine.aclose`, for all at the same time."""
        if self.parallel and patience_s is not None:
            patience_s = max(patience_s, IDLE_S)
        await asyncio.gather(*(entry.aclose(patience_s) for entry in (self.exclusive, *self.parallel)))


def open_engines(
    graph_file: Path,
    graph: Graph,
    provider: Provider,
    num_threads: int = 0,
    num_streams: int = 0,
    session_factory: SessionFactory = open_session,
) -> EngineSet:
    """
    Args:
        graph_file, graph, provider, num_threads, session_factory: as for `EncoderEngine`.
        num_streams: batches at the same time, at most one a thread, on a processor; 0: as many as threads, where those are few
            and the arithmetic is int8 or int7: in fp32 it gains next to nothing, and its weights are four times as large. GPUs
            compute one after the other: they have their own ways to keep busy.

    Raises:
        InvalidArtefact, ProviderUnavailable: as for `EncoderEngine`.
    """
    exclusive = EncoderEngine(graph_file, graph, provider, num_threads, session_factory)
    num_parallel = _num_parallel(num_streams, exclusive.num_threads, provider)
    if num_parallel < 2:
        return EngineSet(exclusive)
    threads_each = exclusive.num_threads // num_parallel
    parallel = [EncoderEngine(graph_file, graph, provider, threads_each, session_factory)]
    if threads_each == 1 and provider.device == "cpu":  # which computes on the thread that asks; OpenVINO has its own
        session_factory = parallel[0].share_session
    parallel += [EncoderEngine(graph_file, graph, provider, threads_each, session_factory) for _ in range(num_parallel - 1)]
    return EngineSet(exclusive, parallel)


def _num_parallel(requested: int, num_threads: int, provider: Provider) -> int:
    if provider.device not in PROCESSORS:
        return 1
    pays = provider.precision in ("int8", "int7") and num_threads <= MAX_DEFAULT_STREAMS
    return min(requested or (num_threads if pays else 1), num_threads)


def is_out_of_memory(error: Exception) -> bool:
    """Whether this is how an engine, or Python, says that there was no memory.

    The type says nothing: the CPU's arena raises `Fail` and its plain allocator `RuntimeException`, as any broken node does.
    """
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY_WORDS)

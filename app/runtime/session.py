"""OnnxSession: one graph on one execution provider, run on a thread of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from app.core.errors import EngineFailed, EngineLost, HooperError, InvalidArtefact, OutOfMemory
from app.core.manifest import Graph
from app.core.types import Row, RowOutput, RunResult
from app.runtime.engine import Engine, OpenEngine, RunOptions, open_engine
from app.runtime.fitting import Part, parts
from app.runtime.layout import Plan, check_shapes, num_computed_tokens, plan, split, to_tensors
from app.runtime.machine import available_cores
from app.runtime.memory import is_out_of_memory
from app.runtime.providers import Provider
from app.runtime.thread import EngineThread

CLOSE_S = 5.0
"""Seconds that a run in progress gets to end when its session is closed, and again once it was told to stop."""

FATAL_ONLY = 4
"""Of ONNX Runtime's own log: what fails is raised, and need not be printed as well."""

logger = logging.getLogger(__name__)


class OnnxSession:
    """Runs rows through a graph. After it exists, the provider in use is the one that was asked for.

    Satisfies `app.batching.watchdog.Runner`. Runs one batch at a time: the engine uses all its threads for it.
    """

    def __init__(
        self, graph_file: Path, graph: Graph, provider: Provider, num_threads: int = 0, opening: OpenEngine = open_engine
    ) -> None:
        """
        Args:
            graph_file: the .onnx file.
            graph: its entry in the manifest.
            provider: what to run it on; see `choose_provider`.
            num_threads: threads of the engine; 0: all cores this process may use.
            opening: what opens the graph.

        Raises:
            InvalidArtefact: the graph cannot be loaded, or its inputs are not the manifest's.
            ProviderUnavailable: the engine would not use the provider.
        """
        self.graph, self.provider = graph, provider
        self.num_threads = num_threads or available_cores()
        engine = opening(graph_file, graph, provider, self.num_threads)
        inputs = {one.name for one in engine.get_inputs()}
        if inputs != set(graph.inputs):
            raise InvalidArtefact(f"{graph_file} takes {sorted(inputs)}, the manifest says {sorted(graph.inputs)}")
        self.execution_providers = engine.get_providers()
        """The chain really in use, as the engine reports it."""
        self._engine: Engine | None = engine
        self._outputs = [output.name for output in graph.outputs]
        self._run_options: RunOptions = onnxruntime.RunOptions()
        self._thread = EngineThread(graph_file.parent.parent.name, self._give_back)

    async def run(self, rows: Sequence[Row]) -> RunResult:
        """Run a batch on the engine's thread. A row whose output is not finite gets an error in its place.

        Raises:
            OutOfMemory: the engine had no memory for the batch.
            EngineFailed: its outputs have not the shapes that the rows need.
            EngineLost: the thread is gone.
        """
        self._run_options = options = onnxruntime.RunOptions()  # here, so that a run can be stopped before it has begun
        return await self._thread.call(lambda: self._run(rows, options))

    def run_rows(self, rows: Sequence[Row]) -> list[RowOutput]:
        """Run a batch here and now: for offline use.

        Raises:
            EngineFailed: an output is not finite or has not the shape that the rows need.
        """
        outputs = []
        for output in self._run(rows, onnxruntime.RunOptions()).outputs:
            if isinstance(output, HooperError):
                raise output
            outputs.append(output)
        return outputs

    def run_together(self, rows: Sequence[Row]) -> list[RowOutput]:
        """Run rows in one tensor, here and now, however different their lengths: for offline use.

        Raises:
            EngineFailed: an output is not finite or has not the shape that the rows need.
        """
        where = plan([row.num_tokens for row in rows], self.graph.layout, self.provider.fixed_shapes)
        outputs = []
        options = onnxruntime.RunOptions()
        options.log_severity_level = FATAL_ONLY
        for output in self._compute_tensor(rows, where, options):
            if isinstance(output, HooperError):
                raise output
            outputs.append(output)
        return outputs

    def terminate(self) -> None:
        """Tell the run in progress to stop; it does so between two nodes of the graph, not within one."""
        self._run_options.terminate = True

    async def aclose(self, patience_s: float | None = None) -> None:
        """Wait for the run in progress, tell it to stop after `patience_s` seconds, and leave it behind after as many more.

        The engine's memory is given back when its run ends, be it later.

        Args:
            patience_s: by default `CLOSE_S`.
        """
        patience = CLOSE_S if patience_s is None else patience_s
        if await self._thread.aclose(patience):
            return
        self.terminate()
        if not await self._thread.aclose(patience):
            logger.error("an engine was left behind in a run that does not end", extra={"graph": self.graph.file})

    def opened_again(self, *_: object) -> Engine:
        """Its engine, for another session that computes with the same one at the same time, on a thread of its own."""
        if self._engine is None:
            raise EngineLost("the engine was given back")
        return self._engine

    def _give_back(self) -> None:
        self._engine = None

    def _run(self, rows: Sequence[Row], options: RunOptions) -> RunResult:
        began = time.perf_counter()
        outputs, num_computed = self._compute(rows, options)
        failed = [index for index, output in enumerate(outputs) if isinstance(output, HooperError)]
        if len(rows) > 1:  # what is not finite spreads to whoever shares the tensor row: alone, a row shows its own
            for index in failed:
                (outputs[index],), more = self._compute([rows[index]], options)
                num_computed += more
        return RunResult(outputs, num_computed, time.perf_counter() - began)

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
        try:
            tensors = to_tensors(rows, where, self.graph, self.provider.fixed_shapes)
            produced = self._engine.run(self._outputs, tensors, options)
        except Exception as error:  # onnxruntime raises a dozen unrelated types here
            if is_out_of_memory(error):
                raise OutOfMemory(
                    f"the engine had no memory for {len(rows)} rows in {where.height} x {where.width} tokens"
                ) from error
            raise
        check_shapes(produced, tensors, self.graph)
        outputs = split(produced, rows, where, self.graph)
        finite = all(np.isfinite(tensor).all() for tensor in produced)
        return [output if finite else _checked(output) for output in outputs]


def _checked(output: RowOutput) -> RowOutput | HooperError:
    if all(np.isfinite(part).all() for part in output.values()):
        return output
    return EngineFailed("the model gave no finite numbers for this input")

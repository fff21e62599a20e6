"""The one door to Ray Data, which only the extra `ray` brings: one process reads, engines on all nodes answer, in order.

What a lost process or node was doing, Ray does again. That loses no row and doubles none: a chunk is the same whenever it is
read, is answered as a whole, and comes back in its place or not at all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.data

from app.cli.local_model import ModelRequest, opened
from app.cli.pipeline import UNDER_WAY, chunks, rows_after, share_read
from app.cli.row_writers import RowWriter, WrittenRows, written
from app.core.errors import HooperError, SetupError
from app.core.manifest import verify_files
from app.data.sources import open_source

GPU_DEVICES = ("cuda", "tensorrt")
NODE_LABEL = "ray.io/node-id"
Batch = Mapping[str, Any]
"""Ray's: one chunk, pickled, in the column `chunk`; a column of texts would not hold the lone surrogates of an id."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is done on the cluster; it travels to every process there."""

    source: str
    request: ModelRequest
    writer: RowWriter
    num_before: int
    """Rows that an earlier run has answered."""
    chunk_limits: tuple[int, int]
    """Rows and characters of a chunk."""


def answered(job: Job, address: str) -> Generator[WrittenRows, None, None]:
    """Each chunk as it is written, in order.

    Args:
        address: of the cluster, as `ray.init` takes it; the calling process is on one of its nodes.

    Raises:
        HooperError: what stopped the reading, after everything before it.
        SetupError: there is no such cluster, or it cannot run this job.
    """
    with _connected(address), ray.data.DataContext.current(_context()):
        for row in _dataset(_fit_to_travel(job)).iter_rows():
            chunk: WrittenRows | HooperError = pickle.loads(row["chunk"])  # noqa: S301 - of our own processes
            if isinstance(chunk, HooperError):
                raise chunk
            yield chunk


def _fit_to_travel(job: Job) -> Job:
    """With paths that mean the same everywhere. An engine has one thread unless told otherwise: all cores of its node are
    those of the other engines there, too."""
    request = job.request
    artefact = replace(request.artefact, folder=request.artefact.folder.resolve())
    settings = request.settings.model_copy(update={"engine_threads": request.settings.engine_threads or 1})
    return replace(job, source=str(Path(job.source).resolve()), request=replace(request, artefact=artefact, settings=settings))


def _dataset(job: Job) -> Any:
    num_cpus, num_gpus = job.request.settings.engine_threads, 1 if job.request.settings.device in GPU_DEVICES else 0
    this_node = {NODE_LABEL: ray.get_runtime_context().get_node_id()}
    # no core is set aside for reading: where engines have taken all of this node, it would never begin
    source_blocks = ray.data.from_items([0]).map_batches(_read, fn_args=(job,), num_cpus=0, label_selector=this_node)
    engines = ray.data.ActorPoolStrategy(
        min_size=1,
        initial_size=_room(num_cpus, num_gpus),
        max_concurrent_calls_per_actor=UNDER_WAY,
        enable_true_multi_threading=True,
    )
    return source_blocks.map_batches(
        RayEngine, fn_constructor_args=(job,), batch_size=None, compute=engines, num_cpus=num_cpus, num_gpus=num_gpus
    )


def _read(_: Batch, job: Job) -> Iterator[Batch]:
    """Chunks with the share of the source that was read by then; at the end, what stopped the reading."""
    schema, num_rows = job.request.schema, job.num_before
    with open_source(job.source) as stream:
        try:
            share = share_read(stream, job.source)
            for inputs in chunks(rows_after(stream, job.source, schema, num_rows), *job.chunk_limits):
                num_rows += len(inputs)
                yield _packed((inputs, share(num_rows)))
        except HooperError as error:  # not raised here: Ray would drop what was read before it
            yield _packed((error, 1.0))


class RayEngine:
    """The model, in a process of its own. Chunks come on threads of Ray's, several at once, and are answered on one loop.

    What stops it is an answer, too: raised here, it would reach the person as Ray's account of its own insides.
    """

    def __init__(self, job: Job) -> None:
        self._writer, self._open = job.writer, ExitStack()
        self._failure: HooperError | None = None
        try:
            self._start(job.request)
        except HooperError as error:
            self._failure = error

    def __call__(self, batch: Batch) -> Batch:
        inputs, share = pickle.loads(batch["chunk"][0])  # noqa: S301 - of our own processes
        failure = inputs if isinstance(inputs, HooperError) else self._failure
        if failure is not None:
            return _packed(failure)
        try:
            answers = asyncio.run_coroutine_threadsafe(self._model.answers(inputs), self._loop).result()
        except HooperError as error:
            return _packed(error)
        return _packed(written(self._writer, inputs, answers, share))

    def _start(self, request: ModelRequest) -> None:
        verify_files(request.artefact.folder, request.artefact.manifest)  # this node's files are those of the node that asks
        self._model = self._open.enter_context(opened(request))
        self._loop = self._model.runner.get_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="engine-loop", daemon=True)
        thread.start()
        self._open.callback(thread.join)
        self._open.callback(self._loop.call_soon_threadsafe, self._loop.stop)

    def __del__(self) -> None:
        self._open.close()  # Ray has no other call at the end


def _packed(content: Any) -> Batch:
    return {"chunk": [pickle.dumps(content)]}


def _room(num_cpus: int, num_gpus: int) -> int:
    """Engines that the nodes have room for.

    Raises:
        SetupError: not one; Ray would wait for a node that has it.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores, gpus = [node.get("CPU", 0) for node in nodes], [node.get("GPU", 0) for node in nodes]
    room = sum(int(min(cpu // num_cpus, gpu if num_gpus else cpu)) for cpu, gpu in zip(cores, gpus, strict=True))
    if not room:
        needs = f"{num_cpus} cores" + " and a GPU" * num_gpus
        raise SetupError(f"an engine takes {needs}; the cluster's nodes have at most {max(cores):g} cores, {max(gpus):g} GPUs")
    return room


def _context() -> Any:
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # byte: each chunk is a block of its own, which any engine may take
    context.enable_progress_bars = False
    return context


@contextmanager
def _connected(address: str) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends reports home unless it is told not to
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # which warns that it is switched off
    with redirect_stdout(sys.stderr):  # Ray prints there that a node has died; ours is for what was done
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise SetupError(f"there is no Ray cluster at {address!r}: {error}") from error
        try:
            yield
        except ray.exceptions.RayError as error:
            raise SetupError(f"the Ray cluster at {address!r} could not go on: {str(error).splitlines()[0]}") from error
        finally:
            ray.shutdown()

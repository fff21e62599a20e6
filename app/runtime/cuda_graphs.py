"""CudaGraphSession: a session whose tensors lie at fixed addresses on a device, as CUDA graphs need them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from app.core.manifest import Graph
from app.core.types import Ints, Row
from app.runtime.layout import plan, to_tensors

MAX_CAPTURED = 64
"""Sets of tensor shapes that get a graph, in the order in which they come; each keeps its buffers and its graph for good."""
GRAPH_ID = "gpu_graph_id"
"""The run's option that says which captured graph to replay. An id that is new is captured in its first run."""
NOT_CAPTURED = "-1"
"""The id of a run that neither captures nor replays."""

Shapes = tuple[tuple[str, ...], tuple[tuple[str, tuple[int, ...]], ...]]
"""Names of the outputs, then name and shape of each input."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Buffers:
    """Where the tensors of one set of shapes lie, and the id of the graph that is captured over them."""

    graph_id: int
    inputs: Mapping[str, Any]
    binding: Any


class CudaGraphSession:
    """Answers as its session does. Tensors whose shapes were met before are computed in buffers that were made for these: on
    CUDA, all kernels of such a run are captured once and from then on launched together. Satisfies `engine.Engine`.

    Invariant: the buffers of a graph id stay where they are, and an id is never used again: a captured graph reads and writes
    the addresses that it was captured over, whatever is bound later.

    For one thread at a time; ONNX Runtime keeps the graphs of each thread apart, and another one captures them again.
    """

    def __init__(self, session: Any, device: str = "cuda", max_captured: int = MAX_CAPTURED) -> None:
        """
        Args:
            session: an `onnxruntime.InferenceSession`, on CUDA with `enable_cuda_graph`.
            device: where the buffers lie, `cuda` or `cpu`: on a CPU the same runs, but nothing is captured.
            max_captured: sets of shapes that get buffers; others run as if there were no graphs.
        """
        self._session, self._device, self._max_captured = session, device, max_captured
        self._ids = itertools.count()
        self._buffers: dict[Shapes, _Buffers | None] = {}  # None: its capture failed

    @property
    def num_bound(self) -> int:
        """Sets of shapes that have buffers."""
        return sum(buffers is not None for buffers in self._buffers.values())

    def run(self, outputs: Sequence[str], tensors: Mapping[str, Ints], options: Any, /) -> Sequence[np.ndarray]:
        """As `InferenceSession.run`."""
        shapes = tuple(outputs), tuple((name, tensor.shape) for name, tensor in tensors.items())
        buffers = self._buffers.get(shapes)
        # a replay does not look at `terminate`: a run that was told to stop before it began goes where that is heeded
        if buffers is not None and not options.terminate:
            return self._replayed(shapes, buffers, tensors, options)
        options.add_run_config_entry(GRAPH_ID, NOT_CAPTURED)
        computed: Sequence[np.ndarray] = self._session.run(outputs, tensors, options)
        if shapes not in self._buffers and self.num_bound < self._max_captured:
            # now, since only an answer tells the shapes of outputs; captured when these shapes come again
            self._buffers[shapes] = self._bind(dict(zip(outputs, computed, strict=True)), tensors)
        return computed

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def get_providers(self) -> list[str]:
        return list(self._session.get_providers())

    def _replayed(self, shapes: Shapes, buffers: _Buffers, tensors: Mapping[str, Ints], options: Any) -> Sequence[np.ndarray]:
        options.add_run_config_entry(GRAPH_ID, str(buffers.graph_id))
        try:
            for name, tensor in tensors.items():
                buffers.inputs[name].update_inplace(tensor)
            buffers.binding.synchronize_inputs()
            self._session.run_with_iobinding(buffers.binding, options)
            copied: Sequence[np.ndarray] = buffers.binding.copy_outputs_to_cpu()
        except Exception:  # whatever it was, what is half captured must not be replayed
            self._buffers[shapes] = None
            logger.warning("tensors of these shapes are computed without a CUDA graph from now on", extra={"shapes": shapes[1]})
            raise
        return copied

    def _bind(self, outputs: Mapping[str, np.ndarray], tensors: Mapping[str, Ints]) -> _Buffers:
        inputs = {name: self._buffer(tensor) for name, tensor in tensors.items()}
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, output in outputs.items():
            binding.bind_ortvalue_output(name, self._buffer(output))
        return _Buffers(next(self._ids), inputs, binding)

    def _buffer(self, like: np.ndarray) -> Any:
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype.type, self._device, 0)


def try_capture(engine: CudaGraphSession, graph: Graph) -> None:
    """Run the smallest tensors of a graph until they are captured, so that what cannot be captured shows when it is loaded.

    Raises:
        Exception: of one of onnxruntime's dozen types, if they cannot.
    """
    row = Row([graph.pad_token_id], [0])
    tensors = to_tensors([row], plan([row.num_tokens], graph.layout, True), graph, True)
    for _ in ("met", "captured", "replayed"):
        engine.run([output.name for output in graph.outputs], tensors, onnxruntime.RunOptions())

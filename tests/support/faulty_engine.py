"""An engine around a real one, whose next run does what a test says: fail, hang, or answer something else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.core.manifest import Graph
from app.core.types import Ints
from app.runtime.onnx_session import InputInfo, OrtSession, open_session
from app.runtime.providers import Provider

Outputs = Sequence[np.ndarray]
Twist = Callable[[Outputs, Mapping[str, Ints], Any], Outputs]
"""From what the engine answered, what it was asked, and the run's options, to what it is said to have answered."""


class FaultySessionFactory:
    """Opens engines, each of which lets `twist` have its way with every run while there is one."""

    def __init__(self) -> None:
        self.twist: Twist | None = None
        self.num_opened = 0

    def __call__(self, graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        self.num_opened += 1
        return _FaultySession(open_session(graph_file, graph, provider, num_threads), self)


class _FaultySession:
    def __init__(self, engine: OrtSession, faulty: FaultySessionFactory) -> None:
        self._engine, self._faulty = engine, faulty

    def run(self, outputs: Sequence[str], tensors: Mapping[str, Ints], options: Any) -> Outputs:
        answered = self._engine.run(outputs, tensors, options)
        return answered if self._faulty.twist is None else self._faulty.twist(answered, tensors, options)

    def get_inputs(self) -> Sequence[InputInfo]:
        return self._engine.get_inputs()

    def get_providers(self) -> list[str]:
        return self._engine.get_providers()


class Hang:
    """A twist: runs that do not end until `release` is called, whatever they are told."""

    def __init__(self) -> None:
        self.begun, self._gate = threading.Event(), threading.Event()

    def __call__(self, answered: Outputs, tensors: Mapping[str, Ints], options: Any) -> Outputs:
        self.begun.set()
        self._gate.wait()
        return answered

    def release(self) -> None:
        self._gate.set()


def raising(error: BaseException) -> Twist:
    def twist(answered: Outputs, tensors: Mapping[str, Ints], options: Any) -> Outputs:
        raise error

    return twist

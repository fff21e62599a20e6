"""An engine around a real one, whose next run does what a test says: fail, hang, or answer something else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.core.manifest import Decoder, Graph
from app.core.types import Ints
from app.runtime.decoder_session import BoundSession, open_decoder
from app.runtime.onnx_session import InputInfo, OrtSession, open_session
from app.runtime.providers import Provider
from scripts.bench.decode_steps import PassedOn

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


class FaultyDecoderFactory:
    """Opens decoders, each of which lets `twist` have its way before every step while there is one."""

    def __init__(self) -> None:
        self.twist: Callable[[], object] | None = None
        self.max_rows: int | None = None
        """More rows than these are more than memory holds."""

    def __call__(self, file: Path, decoder: Decoder, provider: Provider, num_threads: int) -> BoundSession:
        return _FaultyDecoder(open_decoder(file, decoder, provider, num_threads), self)


class _FaultyDecoder(PassedOn):
    def __init__(self, session: BoundSession, faulty: FaultyDecoderFactory) -> None:
        super().__init__(session)
        self._faulty = faulty

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        if self._faulty.twist is not None:
            self._faulty.twist()
        num_rows = binding.get_outputs()[0].shape()[0]
        if self._faulty.max_rows is not None and num_rows > self._faulty.max_rows:
            raise RuntimeError("bad_alloc")
        self._session.run_with_iobinding(binding, options)

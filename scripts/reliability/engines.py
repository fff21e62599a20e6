"""Engines that fail on purpose: each opens the real graph and gets in the way of its runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.core.manifest import Graph
from app.core.types import Ints
from app.runtime.onnx_session import InputInfo, OrtSession, RunOptions, SessionFactory, open_session
from app.runtime.providers import Provider

Outputs = Sequence[np.ndarray]
SPARED_RUNS = 4
"""Runs of an engine before it fails: its golden requests are among them."""
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an engine, before the real graph has been asked."""

    number: int
    """Of this engine's runs, from 1."""
    engine: int
    """Of the engines that this process has opened, from 1."""
    tensors: Mapping[str, Ints]
    options: RunOptions
    poison: int
    """The token that makes a row guilty."""
    answer: Callable[[], Outputs]

    @property
    def is_poisoned(self) -> bool:
        return self.number > SPARED_RUNS and bool((self.tensors["input_ids"] == self.poison).any())

    def is_every(self, nth: int) -> bool:
        return self.number > SPARED_RUNS and self.number % nth == 0


Behaviour = Callable[[Run], Outputs]


class FaultyEngines:
    """Opens engines that behave like this. An `SessionFactory`, as `create_app` takes it."""

    def __init__(self, behaviour: Behaviour, poison: int, session_factory: SessionFactory = open_session) -> None:
        self.behaviour, self.poison, self._session_factory = behaviour, poison, session_factory
        self._num_opened = 0

    def __call__(self, graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        self._num_opened += 1
        return _FaultyEngine(self._session_factory(graph_file, graph, provider, num_threads), self, self._num_opened)


class _FaultyEngine:
    def __init__(self, engine: OrtSession, made_by: FaultyEngines, number: int) -> None:
        self._engine, self._made_by, self._number, self._num_runs = engine, made_by, number, 0

    def run(self, outputs: Sequence[str], tensors: Mapping[str, Ints], options: RunOptions) -> Outputs:
        self._num_runs += 1
        answer = lambda: self._engine.run(outputs, tensors, options)  # noqa: E731 - a value, made here and used once
        return self._made_by.behaviour(Run(self._num_runs, self._number, tensors, options, self._made_by.poison, answer))

    def get_inputs(self) -> Sequence[InputInfo]:
        return self._engine.get_inputs()

    def get_providers(self) -> list[str]:
        return self._engine.get_providers()


def well(run: Run) -> Outputs:
    return run.answer()


def slow(run: Run) -> Outputs:
    time.sleep(0.02)
    return run.answer()


def raises_now_and_then(run: Run) -> Outputs:
    if run.is_every(5):
        raise RuntimeError("the injected failure")
    return run.answer()


def raises_on_poison(run: Run) -> Outputs:
    if run.is_poisoned:
        raise RuntimeError("the injected failure")
    return run.answer()


def not_finite_on_poison(run: Run) -> Outputs:
    """NaN and infinity in turn, all over the batch, as attention spreads them."""
    wrong = np.nan if run.number % 2 else np.inf
    return [np.full_like(one, wrong) for one in run.answer()] if run.is_poisoned else run.answer()


def miscounts_now_and_then(run: Run) -> Outputs:
    """A row too few and a row too many in turn."""
    if not run.is_every(5):
        return run.answer()
    fewer = run.number % 2
    return [one[1:] if fewer else np.concatenate([one, one[:1]]) for one in run.answer()]


def wrong_shape_on_poison(run: Run) -> Outputs:
    return [one[..., 0] for one in run.answer()] if run.is_poisoned else run.answer()


def no_memory_for(num_tokens: int) -> Behaviour:
    def behaviour(run: Run) -> Outputs:
        if run.number > SPARED_RUNS and run.tensors["input_ids"].size > num_tokens:
            raise RuntimeError("bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 68719476736")
        return run.answer()

    return behaviour


def no_memory_on_poison(run: Run) -> Outputs:
    if run.is_poisoned:
        raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
    return run.answer()


def hangs_until_told(run: Run) -> Outputs:
    """As ONNX Runtime does it: the flag is looked at between two nodes."""
    if run.is_every(25):
        while not run.options.terminate:
            time.sleep(POLL_S)
        raise RuntimeError("Exiting due to terminate flag being set to true.")
    return run.answer()


def hangs_for_good(num_engines: int) -> Behaviour:
    """So many engines, the first ones, each in its first run that is not spared."""

    def behaviour(run: Run) -> Outputs:
        if run.engine <= num_engines and run.number > SPARED_RUNS:
            threading.Event().wait()
        return run.answer()

    return behaviour


def kills_its_thread(num_engines: int) -> Behaviour:
    def behaviour(run: Run) -> Outputs:
        if run.engine <= num_engines and run.number > SPARED_RUNS:
            raise SystemExit
        return run.answer()

    return behaviour

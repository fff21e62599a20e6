"""Engines that fail on purpose, which open the real graph and get in the way of its runs, and the faults made of them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from app.core.manifest import Graph
from app.core.types import Ints
from app.runtime.onnx_session import InputInfo, OrtSession, RunOptions, SessionFactory, open_session
from app.runtime.providers import Provider
from scripts.reliability import decoders
from scripts.reliability.callers import CountedRequest
from scripts.reliability.decoders import StepBehaviour, steps_well

Outputs = Sequence[np.ndarray]
SPARED_RUNS = 4
"""Runs of an engine before it fails: its golden requests are among them."""
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class EngineRun:
    """A run of an engine, before the real graph has been asked.

    `number` counts this engine's runs and `engine` the engines that the process has opened, both from 1; `poison` is the token
    that makes a row guilty.
    """

    number: int
    engine: int
    tensors: Mapping[str, Ints]
    options: RunOptions
    poison: int
    answer: Callable[[], Outputs]

    @property
    def is_poisoned(self) -> bool:
        return self.number > SPARED_RUNS and bool((self.tensors["input_ids"] == self.poison).any())

    def is_every(self, nth: int) -> bool:
        return self.number > SPARED_RUNS and self.number % nth == 0


Behaviour = Callable[[EngineRun], Outputs]


class FaultyEngines:
    """Opens engines that behave like this. A `SessionFactory`, as `create_app` takes it."""

    def __init__(self, behaviour: Behaviour, poison: int, session_factory: SessionFactory = open_session) -> None:
        self.behaviour, self.poison, self._session_factory = behaviour, poison, session_factory
        self._num_opened = 0

    def __call__(self, graph_file: Path, graph: Graph, provider: Provider, num_threads: int) -> OrtSession:
        self._num_opened += 1
        return _FaultyEngine(self._session_factory(graph_file, graph, provider, num_threads), self, self._num_opened)


class _FaultyEngine:
    def __init__(self, engine: OrtSession, factory: FaultyEngines, number: int) -> None:
        self._engine, self._factory, self._number, self._num_runs = engine, factory, number, 0

    def run(self, outputs: Sequence[str], tensors: Mapping[str, Ints], options: RunOptions) -> Outputs:
        self._num_runs += 1

        def answer() -> Outputs:
            return self._engine.run(outputs, tensors, options)

        run = EngineRun(self._num_runs, self._number, tensors, options, self._factory.poison, answer)
        return self._factory.behaviour(run)

    def get_inputs(self) -> Sequence[InputInfo]:
        return self._engine.get_inputs()

    def get_providers(self) -> list[str]:
        return self._engine.get_providers()


def well(run: EngineRun) -> Outputs:
    return run.answer()


def slow(run: EngineRun) -> Outputs:
    time.sleep(0.02)
    return run.answer()


def raises_now_and_then(run: EngineRun) -> Outputs:
    if run.is_every(5):
        raise RuntimeError("the injected failure")
    return run.answer()


def raises_on_poison(run: EngineRun) -> Outputs:
    if run.is_poisoned:
        raise RuntimeError("the injected failure")
    return run.answer()


def not_finite_on_poison(run: EngineRun) -> Outputs:
    """NaN and infinity in turn, all over the batch, as attention spreads them."""
    wrong = np.nan if run.number % 2 else np.inf
    return [np.full_like(output, wrong) for output in run.answer()] if run.is_poisoned else run.answer()


def miscounts_now_and_then(run: EngineRun) -> Outputs:
    """A row too few and a row too many in turn."""
    if not run.is_every(5):
        return run.answer()
    fewer = run.number % 2
    return [output[1:] if fewer else np.concatenate([output, output[:1]]) for output in run.answer()]


def wrong_shape_on_poison(run: EngineRun) -> Outputs:
    return [output[..., 0] for output in run.answer()] if run.is_poisoned else run.answer()


def no_memory_for(num_tokens: int) -> Behaviour:
    def behaviour(run: EngineRun) -> Outputs:
        if run.number > SPARED_RUNS and run.tensors["input_ids"].size > num_tokens:
            raise RuntimeError("bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 68719476736")
        return run.answer()

    return behaviour


def no_memory_on_poison(run: EngineRun) -> Outputs:
    if run.is_poisoned:
        raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
    return run.answer()


def hangs_until_stopped(run: EngineRun) -> Outputs:
    """As ONNX Runtime does it: the flag is looked at between two nodes."""
    if run.is_every(25):
        while not run.options.terminate:
            time.sleep(POLL_S)
        raise RuntimeError("Exiting due to terminate flag being set to true.")
    return run.answer()


def hangs_for_good(num_engines: int) -> Behaviour:
    """So many engines, the first ones, each in its first run that is not spared."""

    def behaviour(run: EngineRun) -> Outputs:
        if run.engine <= num_engines and run.number > SPARED_RUNS:
            threading.Event().wait()
        return run.answer()

    return behaviour


def kills_its_thread(num_engines: int) -> Behaviour:
    def behaviour(run: EngineRun) -> Outputs:
        if run.engine <= num_engines and run.number > SPARED_RUNS:
            raise SystemExit
        return run.answer()

    return behaviour


Change = Callable[[CountedRequest, random.Random], CountedRequest]


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """What goes wrong, what is special about the requests, and what may come of it.

    `spares_innocents`: only requests whose own row is at fault may fail.
    """

    name: str
    behaviour: Behaviour
    change: Change = lambda request, _: request
    statuses: frozenset[int] = frozenset({200})
    spares_innocents: bool = True
    ends_ready: bool = True
    ends_live: bool = True
    loses_files: bool = False
    step: StepBehaviour = steps_well
    """What a decoder does, where the model has one."""


def poisoned(request: CountedRequest, rng: random.Random) -> CountedRequest:
    return replace(request, is_guilty=True) if rng.random() < 0.1 else request


def in_a_hurry(request: CountedRequest, rng: random.Random) -> CountedRequest:
    return replace(request, timeout_ms=rng.choice((1, 5, 20, 100, 400, 60_000)))


def leaving(request: CountedRequest, rng: random.Random) -> CountedRequest:
    return replace(request, leaves_after_s=rng.uniform(0, 0.1)) if rng.random() < 0.3 else request


def failing(name: str, behaviour: Behaviour, **more: Any) -> InjectedFault:
    """A fault of runs that no row is guilty of."""
    return InjectedFault(name, behaviour, statuses=FAILING, spares_innocents=False, **more)


FAILING = frozenset({200, 503})
FAULTS = (
    InjectedFault("none", well),
    failing("every fifth run raises", raises_now_and_then),
    InjectedFault("a row makes the engine raise", raises_on_poison, poisoned, FAILING),
    InjectedFault("a row gives NaN or infinity", not_finite_on_poison, poisoned, FAILING),
    failing("every fifth run miscounts its rows", miscounts_now_and_then),
    InjectedFault("a row gives another shape", wrong_shape_on_poison, poisoned, FAILING),
    InjectedFault("no memory for more than 128 tokens", no_memory_for(128)),
    InjectedFault("a row takes all memory", no_memory_on_poison, poisoned, FAILING),
    failing("runs hang until they are told to stop", hangs_until_stopped),
    failing("two engines hang for good", hangs_for_good(2)),
    failing("two engines' threads die", kills_its_thread(2)),
    failing("every engine hangs for good", hangs_for_good(99), ends_ready=False, ends_live=False),
    InjectedFault("the model's files vanish", well, loses_files=True),
    InjectedFault("deadlines pass", slow, in_a_hurry, frozenset({200, 504})),
    InjectedFault("clients leave", slow, leaving),
)
WRITER_FAULTS = (
    InjectedFault("none", well),
    InjectedFault("a source makes the encoder raise", raises_on_poison, poisoned, FAILING),
    InjectedFault("a source gives NaN or infinity", not_finite_on_poison, poisoned, FAILING),
    failing("every fortieth step raises", well, step=decoders.raises_now_and_then),
    failing("every fortieth step gives a sequence NaN", well, step=decoders.not_finite_now_and_then),
    InjectedFault("no memory for steps of more than 4 sequences", well, step=decoders.no_memory_for(4)),
    failing("no memory for every fortieth step", well, step=decoders.no_memory_now_and_then),
    failing("steps hang until they are told to stop", well, step=decoders.hangs_until_stopped),
    failing("two decoders hang for good", well, step=decoders.hangs_for_good(2)),
    failing("two decoders' threads die", well, step=decoders.kills_its_thread(2)),
    failing("every decoder hangs for good", well, step=decoders.hangs_for_good(99), ends_ready=False, ends_live=False),
    InjectedFault("the model's files vanish", well, loses_files=True),
    InjectedFault("deadlines pass", well, in_a_hurry, frozenset({200, 504}), step=decoders.slow),
    InjectedFault("clients leave", well, leaving, step=decoders.slow),
)
"""Of a model that writes: of its two engines either may fail."""
CONTINUER_FAULTS = tuple(fault for fault in WRITER_FAULTS if fault.behaviour is well)
"""Of one without an encoder: its decoder is all there is."""

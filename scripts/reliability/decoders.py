"""Decoders that fail on purpose, which open the real graph and get in the way of its steps."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.core.manifest import Decoder
from app.runtime.decoder_session import BoundSession, DecoderFactory, open_decoder
from app.runtime.onnx_session import RunOptions
from app.runtime.providers import Provider
from scripts.bench.decode_steps import PassedOn

SPARED_STEPS = 64
"""Steps of a decoder before it fails: its golden requests are among them."""
EVERY = 40
POLL_S, SLOW_S = 0.01, 0.02
NO_MEMORY = "Failed to allocate memory for requested buffer of size 68719476736"


@dataclass(frozen=True, slots=True)
class DecoderStep:
    """A step of some rows of the cache, before the real graph has been asked.

    `number` counts this decoder's steps and `decoder` the decoders that the process has opened, both from 1.
    """

    number: int
    decoder: int
    num_rows: int
    options: RunOptions
    take: Callable[[], None]
    logits: Callable[[], np.ndarray]
    """(rows, vocabulary), as memory that may be changed."""

    @property
    def is_wrong(self) -> bool:
        return self.number > SPARED_STEPS and self.number % EVERY == 0


StepBehaviour = Callable[[DecoderStep], None]


class FaultyDecoders:
    """Opens decoders that behave like this. A `DecoderFactory`, as `create_app` takes it."""

    def __init__(self, behaviour: StepBehaviour, decoder_factory: DecoderFactory = open_decoder) -> None:
        self.behaviour, self._decoder_factory = behaviour, decoder_factory
        self._num_opened = 0

    def __call__(self, file: Path, decoder: Decoder, provider: Provider, num_threads: int) -> BoundSession:
        self._num_opened += 1
        return _FaultyDecoder(self._decoder_factory(file, decoder, provider, num_threads), self, self._num_opened)


class _FaultyDecoder(PassedOn):
    def __init__(self, session: BoundSession, factory: FaultyDecoders, number: int) -> None:
        super().__init__(session)
        self._factory, self._number, self._num_steps = factory, number, 0

    def run_with_iobinding(self, binding: Any, options: RunOptions) -> None:
        self._num_steps += 1
        num_rows = binding.get_outputs()[0].shape()[0]
        self._factory.behaviour(
            DecoderStep(
                self._num_steps,
                self._number,
                num_rows,
                options,
                lambda: self._session.run_with_iobinding(binding, options),
                lambda: bound_output(binding),
            )
        )


def bound_output(binding: Any) -> np.ndarray:
    """The first output that is bound, float32, as the memory that it is written to."""
    output = binding.get_outputs()[0]
    return np.ctypeslib.as_array(ctypes.cast(output.data_ptr(), ctypes.POINTER(ctypes.c_float)), output.shape())


def steps_well(step: DecoderStep) -> None:
    step.take()


def slow(step: DecoderStep) -> None:
    time.sleep(SLOW_S if step.number > SPARED_STEPS else 0)
    step.take()


def raises_now_and_then(step: DecoderStep) -> None:
    if step.is_wrong:
        raise RuntimeError("the injected failure")
    step.take()


def not_finite_now_and_then(step: DecoderStep) -> None:
    """Of one sequence."""
    step.take()
    if step.is_wrong:
        step.logits()[0] = np.nan


def no_memory_for(num_rows: int) -> StepBehaviour:
    def behaviour(step: DecoderStep) -> None:
        if step.num_rows > num_rows:
            raise RuntimeError(NO_MEMORY)
        step.take()

    return behaviour


def no_memory_now_and_then(step: DecoderStep) -> None:
    if step.is_wrong:
        raise RuntimeError(NO_MEMORY)
    step.take()


def hangs_until_stopped(step: DecoderStep) -> None:
    """As ONNX Runtime does it: the flag is looked at between two nodes."""
    if step.number > SPARED_STEPS and step.number % (EVERY * EVERY) == SPARED_STEPS + 1:
        while not step.options.terminate:
            time.sleep(POLL_S)
        raise RuntimeError("Exiting due to terminate flag being set to true.")
    step.take()


def hangs_for_good(num_decoders: int) -> StepBehaviour:
    """So many of them, the first ones, each in its first step that is not spared."""

    def behaviour(step: DecoderStep) -> None:
        if step.decoder <= num_decoders and step.number > SPARED_STEPS:
            threading.Event().wait()
        step.take()

    return behaviour


def kills_its_thread(num_decoders: int) -> StepBehaviour:
    def behaviour(step: DecoderStep) -> None:
        if step.decoder <= num_decoders and step.number > SPARED_STEPS:
            raise SystemExit
        step.take()

    return behaviour

"""Decoders that fail on purpose: when, and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.core.errors import OutOfMemory
from scripts.reliability.decoders import (
    EVERY,
    SPARED_STEPS,
    DecoderStep,
    FaultyDecoders,
    StepBehaviour,
    hangs_until_stopped,
    kills_its_thread,
    no_memory_for,
    no_memory_now_and_then,
    not_finite_now_and_then,
    raises_now_and_then,
)
from scripts.reliability.engines import WRITER_FAULTS, InjectedFault
from tests.support.tiny_decoder import GREEDY, greedily, source_of, tiny_engine

WRONG = next(number for number in range(SPARED_STEPS + 1, SPARED_STEPS + EVERY + 1) if number % EVERY == 0)


class Options:
    terminate = True


class Taken:
    """What a behaviour makes of a step."""

    def __init__(self, behaviour: StepBehaviour, number: int, num_rows: int = 2, decoder: int = 1) -> None:
        self.num_taken, self.logits = 0, np.zeros((num_rows, 3), np.float32)
        options = Options()
        behaviour(DecoderStep(number, decoder, num_rows, options, self._take, lambda: self.logits))  # type: ignore[arg-type]

    def _take(self) -> None:
        self.num_taken += 1


@pytest.mark.parametrize("fault", WRITER_FAULTS, ids=lambda fault: fault.name)
def test_steps_of_golden_requests_are_taken(fault: InjectedFault) -> None:
    for number in (1, EVERY, SPARED_STEPS):
        assert Taken(fault.step, number).num_taken == 1


@pytest.mark.parametrize("behaviour", [raises_now_and_then, no_memory_now_and_then])
def test_some_steps_raise_and_others_do_not(behaviour: StepBehaviour) -> None:
    with pytest.raises(RuntimeError):
        Taken(behaviour, WRONG)
    assert Taken(behaviour, WRONG + 1).num_taken == 1


def test_some_steps_give_one_sequence_no_numbers() -> None:
    logits = Taken(not_finite_now_and_then, WRONG).logits
    assert np.isnan(logits[0]).all()
    assert np.isfinite(logits[1:]).all()


def test_a_step_that_hangs_ends_when_it_is_told_to() -> None:
    with pytest.raises(RuntimeError, match="terminate"):
        Taken(hangs_until_stopped, EVERY * EVERY + SPARED_STEPS + 1)


def test_threads_of_the_first_decoders_die() -> None:
    with pytest.raises(SystemExit):
        Taken(kills_its_thread(1), SPARED_STEPS + 1)
    assert Taken(kills_its_thread(1), SPARED_STEPS + 1, decoder=2).num_taken == 1


def test_around_a_real_decoder_nothing_changes_but_what_is_meant_to(tmp_path: Path) -> None:
    rows = [source_of(text) for text in ("w5 w6", "w7", "w9 w20 w8")]
    engine = tiny_engine(tmp_path, decoder_factory=FaultyDecoders(no_memory_for(2)))
    written = [output["token_ids"].tolist() for output in engine.generate(rows, GREEDY)]
    assert written == [greedily(row) for row in rows]
    with pytest.raises(OutOfMemory):
        tiny_engine(tmp_path / "none", decoder_factory=FaultyDecoders(no_memory_for(0))).generate(rows, GREEDY)

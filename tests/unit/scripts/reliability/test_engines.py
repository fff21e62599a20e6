"""Engines that fail on purpose: when, and how."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.reliability.callers import CountedRequest
from scripts.reliability.engines import (
    FAULTS,
    SPARED_RUNS,
    Behaviour,
    EngineRun,
    FaultyEngines,
    hangs_until_stopped,
    kills_its_thread,
    miscounts_now_and_then,
    no_memory_for,
    no_memory_on_poison,
    not_finite_on_poison,
    poisoned,
    raises_now_and_then,
    raises_on_poison,
    well,
    wrong_shape_on_poison,
)

POISON = 7
LOGITS = np.arange(6, dtype=np.float32).reshape(3, 2)


class Options:
    terminate = False


def run(number: int = SPARED_RUNS + 1, token: int = POISON, engine: int = 1, size: int = 1) -> EngineRun:
    tensors = {"input_ids": np.full((1, size), token)}
    return EngineRun(number, engine, tensors, Options(), POISON, lambda: [LOGITS])  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_golden_requests_are_always_answered(fault: Any) -> None:
    for number in range(1, SPARED_RUNS + 1):
        (logits,) = fault.behaviour(run(number))
        assert np.array_equal(logits, LOGITS)


@pytest.mark.parametrize("behaviour", [raises_on_poison, no_memory_on_poison])
def test_a_poisonous_row_raises_and_another_does_not(behaviour: Behaviour) -> None:
    with pytest.raises(RuntimeError):
        behaviour(run())
    assert np.array_equal(behaviour(run(token=8))[0], LOGITS)


def test_a_poisonous_row_gives_nan_and_infinity_in_turn() -> None:
    assert np.isnan(not_finite_on_poison(run(5))[0]).all()
    assert np.isinf(not_finite_on_poison(run(6))[0]).all()
    assert wrong_shape_on_poison(run())[0].shape == (3,)


def test_every_fifth_run_fails() -> None:
    assert [len(miscounts_now_and_then(run(number))[0]) for number in (5, 6, 10)] == [2, 3, 4]
    with pytest.raises(RuntimeError):
        raises_now_and_then(run(15))


def test_memory_is_short_from_a_number_of_tokens() -> None:
    assert np.array_equal(no_memory_for(8)(run(size=8))[0], LOGITS)
    with pytest.raises(RuntimeError, match="Failed to allocate memory"):
        no_memory_for(8)(run(size=9))


def test_a_run_that_hangs_ends_when_it_is_told_to() -> None:
    hanging = run(25)
    hanging.options.terminate = True
    with pytest.raises(RuntimeError, match="terminate flag"):
        hangs_until_stopped(hanging)


def test_only_the_first_engines_lose_their_thread() -> None:
    with pytest.raises(SystemExit):
        kills_its_thread(2)(run(engine=2))
    assert np.array_equal(kills_its_thread(2)(run(engine=3))[0], LOGITS)


def test_a_factory_counts_its_engines_and_their_runs() -> None:
    class Session:
        def run(self, outputs: Any, tensors: Any, options: Any) -> Any:
            return [LOGITS]

    seen = []

    def behaviour(engine_run: EngineRun) -> Any:
        seen.append((engine_run.engine, engine_run.number))
        return well(engine_run)

    engines = FaultyEngines(behaviour, POISON, lambda *_: Session())  # type: ignore[arg-type]
    opened = [engines(Path("model.onnx"), None, None, 1) for _ in range(2)]  # type: ignore[arg-type]
    for session in (opened[0], opened[1], opened[1]):
        session.run(["logits"], {"input_ids": np.zeros((1, 1))}, Options())  # type: ignore[arg-type]
    assert seen == [(1, 1), (2, 1), (2, 2)]


def test_a_tenth_of_the_requests_is_guilty() -> None:
    rng = random.Random(0)
    guilty = [poisoned(CountedRequest(number, "a"), rng).is_guilty for number in range(1000)]
    assert 60 < sum(guilty) < 140

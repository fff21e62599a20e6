"""The faults: how an engine fails, whom it is asked by, and what may come of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from scripts.reliability import engines
from scripts.reliability.callers import Request
from scripts.reliability.engines import Behaviour

Change = Callable[[Request, random.Random], Request]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and what may come of it."""

    name: str
    behaviour: Behaviour
    change: Change = lambda request, _: request
    """What is special about the requests."""
    statuses: frozenset[int] = frozenset({200})
    """Those that may occur."""
    spares_innocents: bool = True
    """Only requests whose own row is at fault may fail."""
    ends_ready: bool = True
    ends_live: bool = True
    loses_files: bool = False


def poisoned(request: Request, generator: random.Random) -> Request:
    return replace(request, is_guilty=True) if generator.random() < 0.1 else request


def in_a_hurry(request: Request, generator: random.Random) -> Request:
    return replace(request, timeout_ms=generator.choice((1, 5, 20, 100, 400, 60_000)))


def leaving(request: Request, generator: random.Random) -> Request:
    return replace(request, leaves_after_s=generator.uniform(0, 0.1)) if generator.random() < 0.3 else request


FAILING = frozenset({200, 503})
FAULTS = (
    Fault("none", engines.well),
    Fault("every fifth run raises", engines.raises_now_and_then, statuses=FAILING, spares_innocents=False),
    Fault("a row makes the engine raise", engines.raises_on_poison, poisoned, FAILING),
    Fault("a row gives NaN or infinity", engines.not_finite_on_poison, poisoned, FAILING),
    Fault("every fifth run miscounts its rows", engines.miscounts_now_and_then, statuses=FAILING, spares_innocents=False),
    Fault("a row gives another shape", engines.wrong_shape_on_poison, poisoned, FAILING),
    Fault("no memory for more than 128 tokens", engines.no_memory_for(128)),
    Fault("a row takes all memory", engines.no_memory_on_poison, poisoned, FAILING),
    Fault("runs hang until they are told to stop", engines.hangs_until_told, statuses=FAILING, spares_innocents=False),
    Fault("two engines hang for good", engines.hangs_for_good(2), statuses=FAILING, spares_innocents=False),
    Fault("two engines' threads die", engines.kills_its_thread(2), statuses=FAILING, spares_innocents=False),
    Fault(
        "every engine hangs for good", engines.hangs_for_good(99), statuses=FAILING, spares_innocents=False,
        ends_ready=False, ends_live=False,
    ),
    Fault("the model's files vanish", engines.well, loses_files=True),
    Fault("deadlines pass", engines.slow, in_a_hurry, frozenset({200, 504})),
    Fault("clients leave", engines.slow, leaving),
)  # fmt: skip

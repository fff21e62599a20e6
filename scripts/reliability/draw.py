"""Draws many examples from a strategy and asks with each; what goes wrong is counted by who asks, and never raised."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy

MAX_ROUND = 200
"""Hypothesis remembers what it has drawn, to draw nothing twice: long rounds get slower."""


def ask_with(strategy: SearchStrategy[Any], count: int, dice: random.Random, ask: Callable[[Any], None]) -> int:
    """Ask with this many examples, in rounds that begin anew.

    Returns:
        How many there were: fewer where the strategy has no more, or none.
    """
    num_asked = 0

    def counted(example: Any) -> None:
        nonlocal num_asked
        num_asked += 1
        ask(example)

    while num_asked < count:
        before = num_asked
        _one_round(strategy, min(MAX_ROUND, count - num_asked), dice.getrandbits(64), counted)
        if num_asked - before < 2:  # nothing can be drawn, or always the same
            break
    return num_asked


def _one_round(strategy: SearchStrategy[Any], count: int, number: int, ask: Callable[[Any], None]) -> None:
    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(example: Any) -> None:
        ask(example)

    try:
        one()
    except Unsatisfiable:
        return

"""How many callers are told that they have no key: who guesses keys is answered slowly, and on ever new connections."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from app.core.errors import RateLimited

CONNECTION = "hooper.connection"
"""Key of a request's `state` under which stands what its connection has done so far, where the server keeps that."""
MAX_A_SECOND = 50
MAX_A_CONNECTION = 20


class Refusals:
    """Invariant: within any second at most so many callers are told that their key is wrong."""

    def __init__(self, num_processes: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            num_processes: that answer, each of which tells its part.
            clock: seconds.
        """
        self._clock = clock
        self._moments: deque[float] = deque(maxlen=max(1, MAX_A_SECOND // num_processes))

    def count(self) -> None:
        """Count one more.

        Raises:
            RateLimited: too many were told within the last second.
        """
        now = self._clock()
        is_full = len(self._moments) == self._moments.maxlen
        if is_full and now - self._moments[0] < 1:
            raise RateLimited("too many requests bring a wrong key or none", 1 - (now - self._moments[0]))
        self._moments.append(now)


def is_enough(state: dict[str, Any]) -> bool:
    """Count a refusal of a connection: whether it was the last one that it gets.

    Args:
        state: of the request.
    """
    connection = state.get(CONNECTION)
    if connection is None:
        return False
    connection["refusals"] = connection.get("refusals", 0) + 1
    return bool(connection["refusals"] >= MAX_A_CONNECTION)

"""Admission: how much may wait, and how long a caller who is turned away should stay away."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.errors import Overloaded, TooLarge
from app.core.types import Priority

SMOOTHING = 0.8
MIN_RETRY_S = 1.0
MAX_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """How many rows and tokens may wait for the engine."""

    max_rows: int
    max_tokens: int

    def is_reached(self, num_rows: int, num_tokens: int) -> bool:
        """Whether nothing more may wait where so much waits."""
        return num_rows >= self.max_rows or num_tokens >= self.max_tokens

    def of(self, priority: Priority) -> QueueLimit:
        """What a row of this priority meets: bulk ones are taken only while the queue is at most half full, so that they
        alone never turn an interactive one away."""
        return self if priority == "interactive" else QueueLimit(max(1, self.max_rows // 2), max(1, self.max_tokens // 2))


def check_size(num_rows: int, num_tokens: int, limit: QueueLimit) -> None:
    """
    Raises:
        TooLarge: a request has more than may ever wait.
    """
    if num_rows > limit.max_rows or num_tokens > limit.max_tokens:
        raise TooLarge(
            f"the request has {num_rows} rows of {num_tokens} tokens in all; at most {limit.max_rows} rows"
            f" and {limit.max_tokens} tokens may wait"
        )


def queue_is_full(num_rows: int, num_tokens: int, retry_after_s: float) -> Overloaded:
    return Overloaded(f"{num_rows} rows of {num_tokens} tokens are waiting, which is all the queue takes", retry_after_s)


class DrainRate:
    """Tokens a second by which the queue has become shorter lately.

    Time is counted whatever the engine did meanwhile: of a model that writes, each new token makes those wait that follow.
    """

    def __init__(self) -> None:
        self._tokens = self._seconds = 0.0  # of a batch, on average
        self._decode_s = 0.0

    def decoded(self, seconds: float) -> None:
        """A step took no tokens off the queue."""
        self._decode_s += seconds

    def ran(self, num_tokens: int, seconds: float) -> None:
        """A batch did, in so much time and that of the steps before it."""
        seconds, self._decode_s = max(seconds + self._decode_s, 1e-6), 0.0
        kept = SMOOTHING if self._tokens else 0.0
        self._tokens = kept * self._tokens + (1 - kept) * num_tokens
        self._seconds = kept * self._seconds + (1 - kept) * seconds

    def seconds_for(self, num_tokens: float) -> float:
        """Seconds until so many tokens are worked off, between 1 and 60; 1 while nothing has been measured."""
        if not self._tokens:
            return MIN_RETRY_S
        seconds = self._seconds + self._decode_s * (1 - SMOOTHING) / SMOOTHING  # as if a batch came now that takes nothing
        return min(MAX_RETRY_S, max(MIN_RETRY_S, num_tokens * seconds / self._tokens))

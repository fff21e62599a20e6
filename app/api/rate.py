"""How often a key may ask: a bucket of tokens for each, which fills at a steady rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.core.errors import RateLimited

MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a key had left at a moment of the clock."""

    num_tokens: float
    at_s: float


def refilled(bucket: Bucket, now_s: float, per_minute: int) -> Bucket:
    """The bucket as it is now; it never holds more than a minute's tokens."""
    gained = (now_s - bucket.at_s) * per_minute / MINUTE_S
    return Bucket(min(float(per_minute), bucket.num_tokens + gained), now_s)


def wait_s(bucket: Bucket, per_minute: int) -> float:
    """Seconds until there is a token; 0 where there is one."""
    return max(0.0, (1 - bucket.num_tokens) * MINUTE_S / per_minute)


def taken(bucket: Bucket | None, now_s: float, per_minute: int) -> Bucket:
    """What a key has left after one request more.

    Raises:
        RateLimited: it has made its requests already.
    """
    left = refilled(bucket or Bucket(per_minute, now_s), now_s, per_minute)
    if left.num_tokens < 1:
        raise RateLimited(f"this key may make {per_minute} requests a minute, and has made them", wait_s(left, per_minute))
    return Bucket(left.num_tokens - 1, now_s)


class KeyRates:
    """Invariant: within any minute a key makes at most twice its requests per minute, and over time no more than those.

    Only keys that the service knows have a bucket, so that strangers cannot make it grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            per_minute: requests that each key may make; 0: any number.
            clock: seconds.
        """
        self._per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, Bucket] = {}

    def take(self, key_hash: str) -> None:
        """Count one request of a key.

        Raises:
            RateLimited: it has made its requests already.
        """
        if not self._per_minute:
            return
        self._buckets[key_hash] = taken(self._buckets.get(key_hash), self._clock(), self._per_minute)

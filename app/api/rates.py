"""How often a key may ask, and how much it may have written: a bucket of tokens for each, which fills at a steady rate."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


BUCKET = struct.Struct("<dd")
"""Tokens left, and at what second; a second of 0: nothing was asked yet."""


class Buckets:
    """The buckets of one process. Only keys that the service knows have one, so that strangers cannot make it grow."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def change(self, key_hash: str, change: Callable[[Bucket | None], Bucket]) -> Bucket:
        """Put what `change` makes of a key's bucket into its place, and return it; None is given where there is none yet.

        Raises:
            RateLimited: `change` raised it; nothing has changed then.
        """
        bucket = self._buckets[key_hash] = change(self._buckets.get(key_hash))
        return bucket


class SharedBuckets(Buckets):
    """Invariant: all processes see the same buckets, each of which one process changes at a time.

    A process that dies while it holds the lock has it taken away by the kernel.
    """

    def __init__(self, path: Path, key_hashes: Sequence[str]) -> None:
        """
        Args:
            path: the file; it is made where it is not there.
            key_hashes: every key that there is, in an order that all processes know.
        """
        super().__init__()
        self._places = {key: BUCKET.size * number for number, key in enumerate(dict.fromkeys(key_hashes))}
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def change(self, key_hash: str, change: Callable[[Bucket | None], Bucket]) -> Bucket:
        place = self._places[key_hash]
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            packed = os.pread(self._file, BUCKET.size, place)
            num_tokens, at_s = BUCKET.unpack(packed) if len(packed) == BUCKET.size else (0.0, 0.0)
            bucket = change(Bucket(num_tokens, at_s) if at_s else None)
            os.pwrite(self._file, BUCKET.pack(bucket.num_tokens, bucket.at_s), place)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return bucket

    def close(self) -> None:
        os.close(self._file)


class KeyRates:
    """Invariant: within any minute a key makes at most twice its requests per minute, and over time no more than those; of all
    processes together, where they share the buckets."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic, buckets: Buckets | None = None) -> None:
        """
        Args:
            per_minute: requests that each key may make; 0: any number.
            clock: seconds, the same in all processes.
            buckets: None: of its own.
        """
        self._per_minute, self._clock, self._buckets = per_minute, clock, buckets or Buckets()

    def take(self, key_hash: str) -> None:
        """Count one request of a key.

        Raises:
            RateLimited: it has made its requests already.
        """
        if self._per_minute:
            self._buckets.change(key_hash, lambda bucket: taken(bucket, self._clock(), self._per_minute))


class KeyNewTokens:
    """Invariant: nothing is begun for a key that has had more new tokens within the last minute than it may have in one.

    How long a text becomes is known when it is written: it is counted then, and a bucket may be overdrawn by what is under way.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic, buckets: Buckets | None = None) -> None:
        """
        Args:
            per_minute: tokens that may be written for each key; 0: any number.
            clock, buckets: as for `KeyRates`.
        """
        self._per_minute, self._clock, self._buckets = per_minute, clock, buckets or Buckets()

    def check(self, key_hash: str | None) -> None:
        """
        Raises:
            RateLimited: this key has had what it may have.
        """
        if self._per_minute and key_hash is not None and (left := self._less(key_hash, 0)).num_tokens < 1:
            raise RateLimited(
                f"this key may have {self._per_minute} new tokens a minute written, and has had them",
                wait_s(left, self._per_minute),
            )

    def count(self, key_hash: str | None, num_tokens: int) -> None:
        """So many were written for it."""
        if self._per_minute and key_hash is not None:
            self._less(key_hash, num_tokens)

    def _less(self, key_hash: str, num_tokens: int) -> Bucket:
        def change(bucket: Bucket | None) -> Bucket:
            now_s = self._clock()
            left = refilled(bucket or Bucket(self._per_minute, now_s), now_s, self._per_minute)
            return Bucket(left.num_tokens - num_tokens, left.at_s)

        return self._buckets.change(key_hash, change)


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
    """Count a refusal of a connection: whether it was the last one that it gets."""
    connection = state.get(CONNECTION)
    if connection is None:
        return False
    connection["refusals"] = connection.get("refusals", 0) + 1
    return bool(connection["refusals"] >= MAX_A_CONNECTION)

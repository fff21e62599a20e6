"""How often a key may ask where several processes answer: the buckets of `app.api.rate` in a file that all of them lock."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from app.api.rate import Bucket, KeyRates, taken

BUCKET = struct.Struct("<dd")
"""Tokens left, and at what second; a second of 0: nothing was asked yet."""


class SharedKeyRates(KeyRates):
    """Invariant: a key makes no more requests of all processes together than it may make of one.

    A process that dies while it holds the lock has it taken away by the kernel.
    """

    def __init__(
        self, per_minute: int, path: Path, key_hashes: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """
        Args:
            per_minute: requests that each key may make; 0: any number.
            path: the file; it is made where it is not there.
            key_hashes: every key that there is, in an order that all processes know.
            clock: seconds, the same in all processes.
        """
        super().__init__(per_minute, clock)
        self._places = {key: BUCKET.size * number for number, key in enumerate(dict.fromkeys(key_hashes))}
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, key_hash: str) -> None:
        if not self._per_minute:
            return
        place = self._places[key_hash]
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            found = os.pread(self._file, BUCKET.size, place)
            num_tokens, at_s = BUCKET.unpack(found) if len(found) == BUCKET.size else (0.0, 0.0)
            left = taken(Bucket(num_tokens, at_s) if at_s else None, self._clock(), self._per_minute)
            os.pwrite(self._file, BUCKET.pack(left.num_tokens, left.at_s), place)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._file)

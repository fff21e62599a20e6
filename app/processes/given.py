"""What a child of the supervisor is given, by line on its standard input, and how it knows that its time has come."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.settings import Settings

BEAT_S = 1.0
STDIN, STDOUT = 0, 1
FAILED = b"failed "
"""Begins the line on standard output that says why a child could not start."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Given:
    """Everything that a child is told."""

    name: str
    settings: dict[str, Any]
    folder: str
    """Its files: the engine process's socket, metrics, and what keys have left."""
    parent: int
    """The supervisor's process id."""
    is_successor: bool = False
    sockets: tuple[int, ...] = ()
    """Listening sockets, inherited under these numbers."""

    @property
    def engine_socket(self) -> Path:
        return Path(self.folder) / "engine.sock"

    @property
    def metrics_folder(self) -> Path:
        return Path(self.folder) / "metrics"

    @property
    def rates_file(self) -> Path:
        return Path(self.folder) / "rates"

    @property
    def place(self) -> str:
        """Its name, as part of a file's."""
        return self.name.replace(" ", "-")

    def read_settings(self) -> Settings:
        return Settings(**self.settings)

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


def receive() -> Given:
    """What the supervisor gives. From here on the kernel kills this process when the supervisor is killed."""
    line = bytearray()
    while not line.endswith(b"\n"):  # byte by byte: what comes after it, the end, is for `until_told`
        byte = os.read(STDIN, 1)
        if not byte:
            sys.exit(0)  # it ended meanwhile
        line += byte
    values = json.loads(line)
    given = Given(**{**values, "sockets": tuple(values["sockets"])})
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != given.parent:  # it was killed before the kernel was asked
        os._exit(0)
    return given


def until_told(end: Callable[[], None]) -> None:
    """Call this when the supervisor closes standard input, which is how it tells a child to finish and leave."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(STDIN, 1):
            loop.remove_reader(STDIN)
            end()

    loop.add_reader(STDIN, read)


async def beat() -> None:
    """Show the supervisor, for as long as this is awaited, that the event loop turns."""
    with suppress(OSError):  # nobody listens any more
        while True:
            os.write(STDOUT, b".\n")
            await asyncio.sleep(BEAT_S)


def say_failure(detail: str) -> None:
    """Why this child cannot start, for the supervisor to tell at the very end."""
    with suppress(OSError):
        os.write(STDOUT, FAILED + json.dumps(detail).encode() + b"\n")

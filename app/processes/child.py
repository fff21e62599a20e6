"""A child process from both ends: how the supervisor starts, watches and ends it, and what it reads and reports itself."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from app.settings import Settings

HEARTBEAT_S = 1.0
STDIN, STDOUT = 0, 1
FAILED = b"failed "
"""Begins the line on standard output that says why a child could not start."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ChildConfig:
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
    def new_tokens_file(self) -> Path:
        """What was written for keys, of all front ends."""
        return Path(self.folder) / "new_tokens"

    @property
    def place(self) -> str:
        """Its name, as part of a file's."""
        return self.name.replace(" ", "-")

    def read_settings(self) -> Settings:
        return Settings(**self.settings)

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


def receive_config() -> ChildConfig:
    """What the supervisor gives. From here on the kernel kills this process when the supervisor is killed."""
    line = bytearray()
    while not line.endswith(b"\n"):  # byte by byte: what comes after it, the end, is for `on_stop_request`
        byte = os.read(STDIN, 1)
        if not byte:
            sys.exit(0)  # it ended meanwhile
        line += byte
    values = json.loads(line)
    config = ChildConfig(**{**values, "sockets": tuple(values["sockets"])})
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != config.parent:  # it was killed before the kernel was asked
        os._exit(0)
    return config


def on_stop_request(end: Callable[[], None]) -> None:
    """Call this when the supervisor closes standard input, which is how it tells a child to finish and leave."""
    loop = asyncio.get_running_loop()

    def on_readable() -> None:
        if not os.read(STDIN, 1):
            loop.remove_reader(STDIN)
            end()

    loop.add_reader(STDIN, on_readable)


async def heartbeat() -> None:
    """Show the supervisor, for as long as this is awaited, that the event loop turns."""
    with suppress(OSError):  # nobody listens any more
        while True:
            os.write(STDOUT, b".\n")
            await asyncio.sleep(HEARTBEAT_S)


def report_failure(detail: str) -> None:
    """Why this child cannot start, for the supervisor to tell at the very end."""
    with suppress(OSError):
        os.write(STDOUT, FAILED + json.dumps(detail).encode() + b"\n")


SILENCE_S = 60.0
"""A front end that shows for so long no sign of life is killed: its event loop stands still, and it answers nobody."""
ENGINE_SILENCE_RUNS = 10
"""An engine process gets the time of so many batches, since opening a graph may hold up its event loop for minutes. Who must
know sooner asks `/health/live`, which waits for it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChildExit:
    """How a child ended."""

    code: int
    """Of its exit; negative: the signal that killed it."""
    lived_s: float
    failure: str
    """Why it could not start, in its own words; empty where it did not say."""

    @property
    def how(self) -> str:
        return f"killed by signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


class Child:
    """One process. Invariant: `ended` returns, since a child that is silent is killed."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, silence_s: float) -> None:
        self.name, self.pid = name, process.pid
        self._process, self._silence_s = process, silence_s
        self._began = time.monotonic()

    @classmethod
    async def start(cls, module: str, config: ChildConfig, silence_s: float = SILENCE_S) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, pass_fds=config.sockets,
            start_new_session=True,  # what a terminal sends to the whole group is for the supervisor
        )  # fmt: skip
        _stdin(process).write(config.line())
        return cls(process, config.name, silence_s)

    def finish(self) -> None:
        """Tell it to answer what it has accepted, and to leave."""
        _stdin(self._process).close()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> ChildExit:
        """Wait for its end, which a silent one is brought to."""
        failure = ""
        lines = cast(asyncio.StreamReader, self._process.stdout)
        while True:
            try:
                async with asyncio.timeout(self._silence_s):
                    line = await lines.readline()
            except TimeoutError:
                logger.error("the %s has stood still for %g s and is killed", self.name, self._silence_s)
                self.kill()
                break
            if not line:
                break
            if line.startswith(FAILED):
                failure = json.loads(line.removeprefix(FAILED))
        code = await self._process.wait()
        return ChildExit(code, time.monotonic() - self._began, failure)


def _stdin(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    return cast(asyncio.StreamWriter, process.stdin)

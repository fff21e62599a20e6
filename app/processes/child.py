"""A child as the supervisor sees it: started, told to finish, killed when it stands still, and what it left behind."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from app.processes.given import FAILED, Given

SILENCE_S = 60.0
"""A front end that shows for so long no sign of life is killed: its event loop stands still, and it answers nobody."""
ENGINE_SILENCE_RUNS = 10
"""An engine process gets the time of so many batches, since opening a graph may hold up its event loop for minutes. Who must
know sooner asks `/health/live`, which waits for it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
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
    async def start(cls, module: str, given: Given, silence_s: float = SILENCE_S) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, pass_fds=given.sockets,
            start_new_session=True,  # what a terminal sends to the whole group is for the supervisor
        )  # fmt: skip
        _stdin(process).write(given.line())
        return cls(process, given.name, silence_s)

    def finish(self) -> None:
        """Tell it to answer what it has accepted, and to leave."""
        _stdin(self._process).close()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> Ended:
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
        return Ended(code, time.monotonic() - self._began, failure)


def _stdin(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    return cast(asyncio.StreamWriter, process.stdin)

"""The watchdog: a runner whose every run ends in a stated time, whatever the engine does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from app.core.errors import EngineLost, EngineStalled
from app.core.types import Row, RunResult

GRACE_S = 5.0


class Runner(Protocol):
    """What the scheduler needs of an engine."""

    async def run(self, rows: Sequence[Row]) -> RunResult: ...

    def terminate(self) -> None:
        """Tell the run in progress to stop; it may take its time, or never obey."""


class Watchdog:
    """Invariant: a run ends within `run_s` and `grace_s` seconds together.

    Python cannot end a thread that hangs in foreign code. So the engine is first told to stop; one that does is asked again,
    and one that does not is lost: its thread is left behind.
    """

    def __init__(self, runner: Runner, run_s: float, grace_s: float | None = None) -> None:
        """
        Args:
            runner: the engine.
            run_s: seconds that a run may take.
            grace_s: seconds that it may take to stop, once told to, by default `GRACE_S`, or `run_s` where that is less.
        """
        self._runner, self._run_s = runner, run_s
        self._grace_s = min(run_s, GRACE_S) if grace_s is None else grace_s

    async def run(self, rows: Sequence[Row]) -> RunResult:
        """
        Raises:
            EngineStalled: the run did not end in time and was stopped. The engine may be asked again.
            EngineLost: it did not stop either. The engine must not be asked again.
        """
        running = asyncio.ensure_future(self._runner.run(rows))
        try:
            if not await _ends(running, self._run_s):
                await self._stop(running, f"the engine did not end a batch of {len(rows)} rows within {self._run_s:g} s")
            return await running
        finally:
            running.cancel()

    def terminate(self) -> None:
        self._runner.terminate()

    async def _stop(self, running: asyncio.Future[RunResult], late: str) -> None:
        """Returns where the run has an answer after all, or has found the engine lost: that it was late is then not its end."""
        self._runner.terminate()
        if not await _ends(running, self._grace_s):
            raise EngineLost(f"{late}, nor stop within {self._grace_s:g} s more")
        if running.cancelled():
            raise EngineStalled(late)
        error = running.exception()
        if error is not None and not isinstance(error, EngineLost):
            raise EngineStalled(late) from error


async def _ends(running: asyncio.Future[RunResult], seconds: float) -> bool:
    done, _ = await asyncio.wait((running,), timeout=seconds)
    return bool(done)

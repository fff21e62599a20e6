"""The watchdog: an engine whose every step ends in a stated time, whatever the engine behind it does."""

from __future__ import annotations

import asyncio
from collections import abc

from app.batching.engine import Engine
from app.core.errors import EngineLost, EngineStalled
from app.core.sequences import Batch, StepOutput

GRACE_S = 5.0


class Watchdog:
    """Invariant: a step ends within `step_s` and `grace_s` seconds together.

    Python cannot end a thread that hangs in foreign code. So the engine is first told to stop; one that does is asked again,
    and one that does not is lost: its thread is abandoned.
    """

    def __init__(self, engine: Engine, step_s: float, grace_s: float | None = None) -> None:
        """
        Args:
            engine: what computes the steps.
            step_s: seconds that a step may take.
            grace_s: seconds that it may take to stop, once told to, by default `GRACE_S`, or `step_s` where that is less.
        """
        self._engine, self._step_s = engine, step_s
        self._grace_s = min(step_s, GRACE_S) if grace_s is None else grace_s

    async def forward(self, batch: Batch) -> StepOutput:
        """
        Raises:
            EngineStalled: the step did not end in time and was stopped. The engine may be asked again.
            EngineLost: it did not stop either. The engine must not be asked again.
        """
        running = asyncio.ensure_future(self._engine.forward(batch))
        try:
            if not await _ends(running, self._step_s):
                late = f"the engine did not end a batch of {len(batch.sequences)} rows within {self._step_s:g} s"
                await self._stop(running, late)
            return await running
        finally:
            running.cancel()

    def release(self, slots: abc.Sequence[int]) -> None:
        self._engine.release(slots)

    def terminate(self) -> None:
        self._engine.terminate()

    async def _stop(self, running: asyncio.Future[StepOutput], late: str) -> None:
        """Return where the step has an output after all, or has found the engine lost: that it was late is then not its end."""
        self._engine.terminate()
        if not await _ends(running, self._grace_s):
            raise EngineLost(f"{late}, nor stop within {self._grace_s:g} s more")
        if running.cancelled():
            raise EngineStalled(late)
        error = running.exception()
        if error is not None and not isinstance(error, EngineLost):
            raise EngineStalled(late) from error


async def _ends(running: asyncio.Future[StepOutput], seconds: float) -> bool:
    done, _ = await asyncio.wait((running,), timeout=seconds)
    return bool(done)

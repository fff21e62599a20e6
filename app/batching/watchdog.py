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
        late = f"the engine did not end a batch of {len(batch.sequences)} rows within {self._step_s:g} s"
        is_late = False
        loop = asyncio.get_running_loop()

        def stop() -> None:
            nonlocal is_late
            is_late = True
            grace.reschedule(loop.time() + self._grace_s)
            self._engine.terminate()

        # one timer, and no task of its own: a step of a small model takes less than what tasks and waiting for them would
        timer, grace = loop.call_later(self._step_s, stop), asyncio.timeout(None)
        try:
            async with grace:
                return await self._engine.forward(batch)  # if it has an output after all, that it was late is not its end
        except asyncio.CancelledError as error:
            if not is_late or _is_cancelled():
                raise
            raise EngineStalled(late) from error
        except Exception as error:
            if grace.expired():
                raise EngineLost(f"{late}, nor stop within {self._grace_s:g} s more") from error
            if not is_late or isinstance(error, EngineLost):
                raise
            raise EngineStalled(late) from error
        finally:
            timer.cancel()

    def release(self, slots: abc.Sequence[int]) -> None:
        self._engine.release(slots)

    def terminate(self) -> None:
        self._engine.terminate()


def _is_cancelled() -> bool:
    """Whether somebody wants the task that runs to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

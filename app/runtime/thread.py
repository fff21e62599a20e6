"""EngineThread: one thread that makes calls in turn, and that can be abandoned."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from app.core.errors import EngineLost

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")
JOIN_S = 5.0
PREFIX = "engine-"


@dataclass(frozen=True, eq=False, slots=True)
class _Call:
    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]

    def make(self) -> None:
        try:
            result = self.function()
        except Exception as error:
            self.fail(error)
        else:
            self._tell(lambda: self.future.set_result(result))

    def fail(self, error: Exception) -> None:
        self._tell(lambda: self.future.set_exception(error))

    def _tell(self, settle: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the caller's event loop is closed: nobody is left to be told
            self.loop.call_soon_threadsafe(lambda: None if self.future.done() else settle())


def is_any_abandoned() -> bool:
    """Whether an engine's thread still runs: then the interpreter must not end as usual, since ONNX Runtime, taken down under a
    run, aborts the process."""
    return any(entry.name.startswith(PREFIX) for entry in threading.enumerate())


class EngineThread:
    """Invariant: every call is told its end once, also when the thread dies under it.

    A daemon of its own in place of a `ThreadPoolExecutor`: the interpreter waits for an executor's threads before it ends, so
    that one call that never returns would keep the process alive for ever; and an executor does not notice that a thread died.
    """

    def __init__(self, name: str, on_end: Callable[[], None]) -> None:
        """
        Args:
            name: what it is for; `engine-` stands before it.
            on_end: called on the thread as the last thing, whyever and whenever it ends.
        """
        self._name, self._on_end = PREFIX + name, on_end
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_over = False
        self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)

    async def call(self, function: Callable[[], ResultT]) -> ResultT:
        """What the function returns or raises, on the thread, after the calls before it.

        Raises:
            EngineLost: the thread has ended, or ends under the call.
        """
        loop = asyncio.get_running_loop()
        call = _Call(function, loop, loop.create_future())
        with self._lock:
            if self._is_over:
                raise EngineLost(f"the thread {self._name} has ended")
            if self._thread.ident is None:  # not before it is needed: whoever never calls leaves no thread behind
                self._thread.start()
            self._calls.put(call)
        result: ResultT = await call.future
        return result

    async def aclose(self, patience_s: float) -> bool:
        """Let the calls before this one finish, for so many seconds, then take no more.

        Returns:
            Whether the thread has ended. Otherwise it ends by itself when its call returns.
        """
        if self._thread.ident is None:
            self._serve_nobody()
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                with contextlib.suppress(EngineLost):
                    await self.call(lambda: None)
                self._calls.put(None)
                self._thread.join(JOIN_S)  # it has nothing left to do but to end
        self._calls.put(None)
        return not self._thread.is_alive()

    async def close(self, patience_s: float, terminate: Callable[[], None]) -> bool:
        """As `aclose`, twice where its call must be told to stop.

        Returns:
            Whether the thread has ended.
        """
        if await self.aclose(patience_s):
            return True
        terminate()
        return await self.aclose(patience_s)

    def _serve_nobody(self) -> None:
        with self._lock:
            was_over, self._is_over = self._is_over, True
        if not was_over:
            self._on_end()

    def _serve(self) -> None:
        call: _Call | None = None
        try:
            while (call := self._calls.get()) is not None:
                call.make()
        except BaseException as error:
            logger.critical("the thread %s has died", self._name, extra={"error": type(error).__name__})
        finally:  # however it ends, nobody is left waiting
            self._refuse(call)
            self._on_end()

    def _refuse(self, current: _Call | None) -> None:
        with self._lock:
            self._is_over = True
        error = EngineLost(f"the thread {self._name} has died")
        if current is not None:
            current.fail(error)
        while not self._calls.empty():
            call = self._calls.get()
            if call is not None:
                call.fail(error)

"""The desk: takes corrections to the feedback file, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from app.core.correction import Correction
from app.core.errors import NotEnabled, Overloaded, Unavailable
from app.core.feedback import Change, FeedbackFile
from app.observability.metrics import Metrics

logger = logging.getLogger(__name__)
T = TypeVar("T")
MOST_WAITING = 64
"""Requests that may wait for the disk; a write takes milliseconds."""
Outcome = Literal["confirmed", "corrected", "refused", "failed"]


class FeedbackDesk:
    """Takes corrections to the file, on a thread of its own, one request after the other.

    Invariant: what `keep` has returned is on the disk, in the file that is at the path, and of what it raised for there is
    nothing. A caller who leaves while the disk writes is not told which of the two it is.
    """

    def __init__(self, metrics: Metrics, path: str = "", max_bytes: int = 0) -> None:
        """
        Args:
            metrics: where corrections are counted.
            path: of the file; empty: none are kept.
            max_bytes: what the file may grow to.
        """
        self._metrics, self._path, self._max_bytes = metrics, path, max_bytes
        self._writer = ThreadPoolExecutor(1, "feedback")
        self._file: FeedbackFile | None = None
        self._num_waiting = 0

    async def open(self) -> None:
        """
        Raises:
            SetupError: the file cannot be opened or made.
        """
        if self._path:
            await self._run(self._open)

    def check_open(self) -> FeedbackFile:
        """The open file.

        Raises:
            NotEnabled: nobody wants corrections to be kept.
            Unavailable: the file is not open yet.
        """
        if not self._path:
            raise NotEnabled("corrections are not kept here; start the service with HOOPER_FEEDBACK=FILE to keep them")
        if self._file is None:
            raise Unavailable("the feedback file is not open yet")
        return self._file

    async def keep(self, corrections: Sequence[Correction]) -> list[int]:
        """Keep all or none.

        Raises:
            Overloaded: too many others wait for the disk.
            NotStored: the disk refused.
            NotEnabled, Unavailable: as for `check_open`.
        """
        file = self.check_open()
        if self._num_waiting >= MOST_WAITING:
            raise Overloaded(f"{self._num_waiting} requests wait for the feedback file, which is all it takes", 1.0)
        self._num_waiting += 1
        try:
            return await self._run(file.add, corrections)
        finally:
            self._num_waiting -= 1

    def count(self, model: str, outcome: Outcome, count: int = 1) -> None:
        """Tell the metrics what came of corrections."""
        self._metrics.feedback.labels(model, outcome).inc(count)

    async def aclose(self) -> None:
        """After what was taken."""
        await self._run(self._close)
        self._writer.shutdown()

    def _open(self) -> None:
        self._file = FeedbackFile(Path(self._path), self._max_bytes, self._tell)

    def _tell(self, change: Change) -> None:
        """Somebody has removed the file, or put another one in its place: they may not have meant to."""
        self._metrics.feedback_file_changes.labels(change).inc()
        logger.warning("the feedback file was gone and is made anew" if change == "made" else "another feedback file is there")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()

    async def _run(self, act: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, act, *arguments)

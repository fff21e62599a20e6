"""Feedback: corrections are checked, stored with what the model answers to the same item, and only then confirmed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from app.core.correction import Correction
from app.core.errors import CallerError, HooperError, InvalidInput, NotEnabled, Overloaded, Unavailable
from app.core.feedback import Change, FeedbackFile
from app.core.manifest import Manifest
from app.core.types import Priority
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment, Prediction, Timings
from app.tasks.base import Result
from app.tasks.spec import CorrectionCodec, Gold

logger = logging.getLogger(__name__)
T = TypeVar("T")
MAX_WAITING = 64
"""Requests that may wait for the disk; a write takes milliseconds."""
Outcome = Literal["confirmed", "corrected", "refused", "failed"]


class FeedbackWriter:
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
        if self._num_waiting >= MAX_WAITING:
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


MOST_LABELS = 20
"""Labels of an answer that are kept, best first."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """An item, and what is said to be right about it."""

    item: Any
    sent: Any
    """As it was sent."""
    codec: CorrectionCodec
    allows_new_labels: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """What is kept with all corrections of a request."""

    request_id: str
    source: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of a correction."""

    id: int
    agrees: bool
    predicted: dict[str, Any]


async def correct(
    deployment: Deployment,
    corrections: Sequence[Corrected],
    note: Note,
    desk: FeedbackWriter,
    deadline: float | None = None,
    priority: Priority = "interactive",
) -> Prediction:
    """Keep corrections; one that cannot be kept yields its error in its place. Each answer is a `Kept`.

    The model answers each item once more, so that what is kept is its own answer and not what a caller says it was.

    Args:
        deployment: the model that is corrected.
        corrections: with the task's own item type; at least one.
        note: what is kept with each.
        desk: keeps them.
        deadline: `time.monotonic()` seconds after which the model's answer is no longer waited for.
        priority: the lane in which rows wait for the engine.

    Raises:
        Overloaded, Unavailable, DeadlineExceeded: for the request as a whole; nothing of it is kept.
    """
    model = deployment.manifest.name
    try:
        prediction = await _keep(deployment, corrections, note, desk, deadline, priority)
    except HooperError:
        desk.count(model, "failed", len(corrections))
        raise
    for one in prediction.results:
        desk.count(model, _outcome(one))
    return prediction


async def _keep(
    deployment: Deployment,
    corrections: Sequence[Corrected],
    note: Note,
    desk: FeedbackWriter,
    deadline: float | None,
    priority: Priority,
) -> Prediction:
    manifest = deployment.manifest
    rights = [_right(one, manifest) for one in corrections]
    items = [one.item for one, right in zip(corrections, rights, strict=True) if not isinstance(right, HooperError)]
    asked = Prediction([], Timings(0, 0, 0))
    if items:
        options = deployment.spec.options()
        asked = await deployment.predict(items, options, deadline, priority, is_repeated=True)
    answers = iter(asked.results)
    made = [
        right if isinstance(right, HooperError) else _made(one, right, next(answers), manifest, note)
        for one, right in zip(corrections, rights, strict=True)
    ]
    sound = [one.correction for one in made if isinstance(one, _Made)]
    ids = iter(await desk.keep(sound) if sound else [])
    results = [one if isinstance(one, HooperError) else one.kept(next(ids)) for one in made]
    return Prediction(results, asked.timings)


@dataclass(frozen=True, slots=True)
class _Made:
    """A correction that can be kept, and the answer in it."""

    correction: Correction
    result: Result

    def kept(self, number: int) -> Result:
        kept = Kept(number, self.correction.agrees, dict(self.correction.predicted))
        return Result(kept, self.result.num_tokens, self.result.truncated)


def _right(one: Corrected, manifest: Manifest) -> Gold | InvalidInput:
    try:
        return one.codec.gold(one.sent, one.item, one.allows_new_labels, manifest.task_options)
    except InvalidInput as error:
        return error


def _made(one: Corrected, right: Gold, result: Result | HooperError, manifest: Manifest, note: Note) -> _Made | HooperError:
    if isinstance(result, HooperError):
        return result
    correction = Correction(
        model=manifest.name,
        version=manifest.version,
        task=manifest.task,
        item={name: value for name, value in asdict(one.item).items() if value is not None},
        predicted=_told(result.answer),
        right=right,
        agrees=one.codec.agrees(result.answer, one.sent),
        request_id=note.request_id,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        source=note.source,
        comment=note.comment,
    )
    return _Made(correction, result)


def _told(answer: Any) -> dict[str, Any]:
    told = asdict(answer)
    if "labels" in told:
        told["labels"] = told["labels"][:MOST_LABELS]
    return told


def _outcome(result: Result | HooperError) -> Outcome:
    if isinstance(result, HooperError):
        return "refused" if isinstance(result, CallerError) else "failed"
    return "confirmed" if result.answer.agrees else "corrected"

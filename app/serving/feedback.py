"""Feedback: corrections are checked, stored with what the model answers to the same item, and only then confirmed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from app.core.correction import Correction, canonical
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

    Invariant: what `store` has returned is on the disk, in the file that is at the path, and of what it raised for there is
    nothing. A caller who leaves while the disk writes is not told which of the two it is.
    """

    def __init__(self, metrics: Metrics, path: str = "", max_bytes: int = 0) -> None:
        """
        Args:
            metrics: where corrections are counted.
            path: of the file; empty: none are kept.
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

    async def store(self, corrections: Sequence[Correction]) -> list[int]:
        """Store all or none.

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


MAX_LABELS = 20
"""Labels of an answer that are stored, best first."""


@dataclass(frozen=True, slots=True)
class SentCorrection:
    """An item, and what is said to be right about it."""

    item: Any
    sent: Any
    """As it was sent."""
    codec: CorrectionCodec
    allows_new_labels: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """What is stored with all corrections of a request."""

    request_id: str
    source: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class StoredCorrection:
    """What came of a correction."""

    id: int
    agrees: bool
    predicted: dict[str, Any]


async def correct(
    deployment: Deployment,
    corrections: Sequence[SentCorrection],
    note: Note,
    writer: FeedbackWriter,
    deadline: float | None = None,
    priority: Priority = "interactive",
) -> Prediction:
    """Store corrections; one that cannot be stored yields its error in its place. Each answer is a `StoredCorrection`.

    The model answers each item once more, so that what is stored is its own answer and not what a caller says it was.

    Args:
        corrections: with the task's own item type; at least one.
        note: what is stored with each.
        deadline: `time.monotonic()` seconds after which the model's answer is no longer waited for.

    Raises:
        Overloaded, Unavailable, DeadlineExceeded: for the request as a whole; nothing of it is stored.
    """
    model = deployment.manifest.name
    try:
        prediction = await _store(deployment, corrections, note, writer, deadline, priority)
    except HooperError:
        writer.count(model, "failed", len(corrections))
        raise
    for result in prediction.results:
        writer.count(model, _outcome(result))
    return prediction


async def _store(
    deployment: Deployment,
    corrections: Sequence[SentCorrection],
    note: Note,
    writer: FeedbackWriter,
    deadline: float | None,
    priority: Priority,
) -> Prediction:
    manifest = deployment.manifest
    checked = [_checked(correction, deployment) for correction in corrections]
    valid = [entry for entry in checked if not isinstance(entry, HooperError)]
    prediction = await _answer(deployment, valid, deadline, priority)
    entries = [
        (_correction(entry, result, manifest, note), result) if isinstance(result, Result) else result
        for entry, result in zip(valid, prediction.results, strict=True)
    ]
    to_store = [entry[0] for entry in entries if not isinstance(entry, HooperError)]
    ids = iter(await writer.store(to_store) if to_store else [])
    results = (entry if isinstance(entry, HooperError) else _stored(next(ids), *entry) for entry in entries)
    return Prediction([entry if isinstance(entry, HooperError) else next(results) for entry in checked], prediction.timings)


@dataclass(frozen=True, slots=True)
class _Checked:
    """A correction that may be kept."""

    correction: SentCorrection
    gold: Gold
    asked: Mapping[str, Any]
    """Options of the request that is corrected."""


def _checked(correction: SentCorrection, deployment: Deployment) -> _Checked | InvalidInput:
    codec, task_options = correction.codec, deployment.manifest.task_options
    try:
        gold = codec.gold(correction.sent, correction.item, correction.allows_new_labels, task_options)
        return _Checked(correction, gold, codec.asked(correction.sent, deployment.task))
    except InvalidInput as error:
        return error


async def _answer(
    deployment: Deployment, entries: Sequence[_Checked], deadline: float | None, priority: Priority
) -> Prediction:
    """What the model says to each, in one request for all that were asked alike."""
    groups: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        groups.setdefault(canonical(entry.asked), []).append(number)
    results: dict[int, Result | HooperError] = {}
    timings = Timings(0, 0, 0)
    for numbers in groups.values():
        items, options = [entries[number].correction.item for number in numbers], entries[numbers[0]].asked
        prediction = await deployment.predict(items, deployment.spec.options(**options), deadline, priority, is_repeated=True)
        results.update(zip(numbers, prediction.results, strict=True))
        timings = prediction.timings
    return Prediction([results[number] for number in range(len(entries))], timings)


def _correction(entry: _Checked, result: Result, manifest: Manifest, note: Note) -> Correction:
    correction = entry.correction
    predicted = correction.codec.predicted(result.answer)
    if "labels" in predicted:
        predicted["labels"] = predicted["labels"][:MAX_LABELS]
    item = {name: value for name, value in asdict(correction.item).items() if value is not None}
    return Correction(
        model=manifest.name,
        version=manifest.version,
        task=manifest.task,
        item={**item, **entry.asked},
        predicted=predicted,
        right=entry.gold,
        agrees=correction.codec.agrees(result.answer, correction.sent),
        request_id=note.request_id,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        source=note.source,
        comment=note.comment,
    )


def _stored(number: int, correction: Correction, result: Result) -> Result:
    stored = StoredCorrection(number, correction.agrees, dict(correction.predicted))
    return Result(stored, result.num_tokens, result.truncated)


def _outcome(result: Result | HooperError) -> Outcome:
    if isinstance(result, HooperError):
        return "refused" if isinstance(result, CallerError) else "failed"
    return "confirmed" if result.answer.agrees else "corrected"

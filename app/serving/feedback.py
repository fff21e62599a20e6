"""Feedback: corrections are checked, laid beside what the model answers to the same item, and kept before that is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from app.core.correction import Correction
from app.core.errors import CallerError, HooperError, InvalidInput
from app.core.manifest import Manifest
from app.core.types import Priority
from app.serving.deployment import Deployment, Prediction, Timings
from app.serving.desk import FeedbackDesk, Outcome
from app.serving.loader import TASK_KINDS
from app.tasks.base import Result
from app.tasks.truth import Right, Truth

MOST_LABELS = 20
"""Labels of an answer that are kept, best first."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """An item, and what is said to be right about it."""

    item: Any
    truth: Truth


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
    desk: FeedbackDesk,
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
    desk: FeedbackDesk,
    deadline: float | None,
    priority: Priority,
) -> Prediction:
    manifest = deployment.manifest
    rights = [_right(one, manifest) for one in corrections]
    items = [one.item for one, right in zip(corrections, rights, strict=True) if not isinstance(right, HooperError)]
    asked = Prediction([], Timings(0, 0, 0))
    if items:
        options = TASK_KINDS[manifest.task].options()
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


def _right(one: Corrected, manifest: Manifest) -> Right | InvalidInput:
    try:
        return one.truth.right(one.item, manifest.task_options)
    except InvalidInput as error:
        return error


def _made(one: Corrected, right: Right, result: Result | HooperError, manifest: Manifest, note: Note) -> _Made | HooperError:
    if isinstance(result, HooperError):
        return result
    correction = Correction(
        model=manifest.name,
        version=manifest.version,
        task=manifest.task,
        item={name: value for name, value in asdict(one.item).items() if value is not None},
        predicted=_told(result.answer),
        right=right,
        agrees=one.truth.agrees(result.answer),
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

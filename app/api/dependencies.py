"""What routes are given: the live state of the application, and the call that a request makes of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import BackgroundTasks, Depends, Header, Request, Response
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders

from app.api.middleware import TOLD, TRACE
from app.api.rate import KeyRates
from app.api.schemas.common import Envelope, FailedItem, ModelRef, Usage, failed
from app.api.schemas.explain import ExplainRequest
from app.api.schemas.feedback import FeedbackRequest
from app.core.errors import HooperError, InvalidInput, TooLarge, TooManyItems, Unavailable
from app.core.types import Priority, TaskName
from app.observability.logging import request_id
from app.observability.metrics import Metrics
from app.observability.tracing import Trace
from app.serving.deployment import Deployment, Prediction, Timings
from app.serving.explaining import explain
from app.serving.feedback import FeedbackWriter, Note, correct
from app.serving.registry import Registry
from app.serving.rollout.lease import Role
from app.serving.rollout.shadow import Shadows, copy_of
from app.settings import Settings
from app.tasks.base import Result

ResultT = TypeVar("ResultT", bound=BaseModel)
MAX_TIMEOUT_MS = 3_600_000
_ENVELOPE = Envelope[Any]
"""Here, since pydantic looks for a specialization every time it is asked for one."""


async def _forget(deployment: Deployment, why: str) -> None:
    """Where nothing outlives the process."""


@dataclass(frozen=True, slots=True)
class Live:
    """Everything that lives as long as the application."""

    settings: Settings
    registry: Registry
    metrics: Metrics
    load: Callable[[str, int | None, Role], Awaitable[Deployment]]
    """Load a model from the repository, and let it play this role for its name."""
    shadows: Shadows
    key_rates: KeyRates = field(default_factory=lambda: KeyRates(0))
    feedback: FeedbackWriter = field(default_factory=lambda: FeedbackWriter(Metrics()))
    """Keeps corrections, where they are wanted."""
    save: Callable[[Deployment, str], Awaitable[None]] = _forget
    """Have a version served after a restart, too, and say why."""

    async def engine_answers(self) -> None:
        """Return once whoever runs the models shows a sign of life, which in one process is at once."""

    async def promote(self, name: str) -> Deployment:
        """See `Registry.promote`; it serves after a restart, too."""
        deployment = self.registry.promote(name)
        await self.save(deployment, "promoted")
        return deployment

    async def unload(self, name: str, version: int | None) -> None:
        """See `Registry.remove`."""
        self.registry.remove(name, version)


class NativeRequest(Protocol):
    """The body of a native route."""

    inputs: Any
    model: str | None

    def items(self) -> Sequence[Any]: ...

    def options(self) -> Any: ...


async def live(request: Request) -> Live:  # async, as all dependencies here: FastAPI runs others on a thread
    return live_state(request)


def live_state(request: Request) -> Live:
    """For what is itself a dependency: FastAPI takes 30 microseconds for each one below another."""
    state: Live = request.app.state.hooper
    return state


class Call:
    """One request to a model: leases it, asks it, and tells what it was and how long it took.

    A native route needs `answer` alone; other protocols `lease`, then `results`, and wrap those themselves.
    """

    def __init__(
        self,
        told: dict[str, str],
        headers: MutableMapping[str, str] | MutableHeaders,
        state: Live,
        timeout_ms: int | None,
        priority: Priority | None,
        afterwards: BackgroundTasks,
        trace: Trace | None = None,
    ) -> None:
        """
        Args:
            told: where the task and the model are told to the metrics and the log.
            headers: of the answer; Server-Timing is put there.
            state: what lives.
            timeout_ms: milliseconds after which the caller no longer wants the answer.
            priority: how urgent the caller says it is.
            afterwards: what is done once the answer was sent.
            trace: where it is told what was asked and where the time went; None where traces are off.
        """
        self._trace = trace
        self._told, self._headers, self._state, self._priority = told, headers, state, priority
        self._afterwards = afterwards
        self._deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000

    @property
    def headers(self) -> dict[str, str]:
        """What a route that makes its own response puts on it."""
        return dict(self._headers)

    @property
    def max_items(self) -> int:
        """Items that a request may hold."""
        return self._state.settings.max_items

    async def answer(self, task: TaskName, request: NativeRequest, wrap: Callable[[Result], ResultT]) -> Envelope[ResultT]:
        """Answer a native request; see the HTTP contract for what fails as a whole and what fails alone."""
        items = request.items()
        with self.lease(task, request.model) as deployment:
            prediction = await self._predict(deployment, items, request.options())
            _check_results(request, prediction.results)
            return self._envelope(deployment, prediction, wrap)

    async def explain(self, request: ExplainRequest, wrap: Callable[[Result], ResultT]) -> Envelope[ResultT]:
        """Explain what a model answers to the items; the model, or else the first item's shape, says which task it is."""
        with self.lease(request.task, request.model) as deployment:
            prediction = await self._merged(
                request.items(deployment.manifest.task),
                lambda good: explain(deployment, good, request.options(), self._deadline, self._priority or "bulk"),
            )
            _check_results(request, prediction.results)
            return self._envelope(deployment, prediction, wrap)

    async def correct(self, request: FeedbackRequest, wrap: Callable[[Result], ResultT]) -> Envelope[ResultT]:
        """Keep corrections; the model, or else the first one's shape, says which task they are of."""
        desk = self._state.feedback
        desk.check_open()
        note = Note(request.request_id or request_id.get(), request.source, request.comment)
        with self.lease(request.task, request.model) as deployment:
            prediction = await self._merged(
                request.corrections(deployment.manifest.task),
                lambda good: correct(deployment, good, note, desk, self._deadline, self._priority or "interactive"),
            )
            _check_results(request, prediction.results)
            return self._envelope(deployment, prediction, wrap)

    @contextmanager
    def lease(self, task: TaskName | None, model: str | None) -> Iterator[Deployment]:
        """The deployment to ask, told to the metrics and the log; see `Registry.assign`."""
        if task is not None:
            self._told["task"] = task
        with self._state.registry.assign(task, model) as deployment:
            manifest = deployment.manifest
            self._told |= {"task": manifest.task, "model": manifest.name, "version": str(manifest.version)}
            if self._trace is not None:
                self._trace.attributes["hooper.model_version"] = manifest.version
            yield deployment

    async def results(
        self,
        deployment: Deployment,
        items: Sequence[Any],
        options: Any,
        place: Callable[[int, str], str],
        advice: str,
        timeout_s: float | None = None,
    ) -> list[Result]:
        """Answer items for a protocol in which none can fail alone; how many were cut goes into the header X-Truncated.

        Args:
            deployment: what `lease` gave.
            items: the task's own item type; at least one.
            options: the task's own options.
            place: from an item's number and the name of its field, which may be empty, to how the caller names it.
            advice: the option with which a text that is too long would be read, as the protocol writes it.
            timeout_s: seconds after which the caller no longer wants the answer, where the protocol has a field for it.

        Raises:
            HooperError: the first item's that could not be answered, or one that concerns the whole request.
        """
        if timeout_s is not None:
            until = time.monotonic() + timeout_s
            self._deadline = until if self._deadline is None else min(until, self._deadline)
        prediction = await self._predict(deployment, items, options)
        good: list[Result] = []
        for number, one in enumerate(prediction.results):
            if isinstance(one, InvalidInput):
                raise InvalidInput(one.reason, place(number, one.field or ""))
            if isinstance(one, TooLarge) and one.truncations:
                raise one.advising(advice)
            if isinstance(one, HooperError):
                raise one
            good.append(one)
        num_cut = sum(one.truncated for one in good)
        if num_cut:
            self._headers["X-Truncated"] = str(num_cut)
        return good

    async def _predict(self, deployment: Deployment, items: Sequence[Any], options: Any) -> Prediction:
        async def ask(good: Sequence[Any]) -> Prediction:
            prediction = await deployment.predict(good, options, self._deadline, self._priority or "interactive")
            if self._state.shadows.are_wanted(deployment):
                self._afterwards.add_task(self._state.shadows.send, copy_of(deployment, good, options, prediction))
            return prediction

        return await self._merged(items, ask)

    async def _merged(self, items: Sequence[Any], ask: Callable[[Sequence[Any]], Awaitable[Prediction]]) -> Prediction:
        """Ask for the items that are none of them an error already, and put those errors in their places."""
        most = self._state.settings.max_items
        if len(items) > most:
            raise TooManyItems(f"{len(items)} items are too many; at most {most}", "inputs")
        if self._trace is not None:
            self._trace.attributes["hooper.num_items"] = len(items)
        good = [item for item in items if not isinstance(item, HooperError)]
        if not good:
            return Prediction(list(items), Timings(0, 0, 0))
        began = time.monotonic()
        prediction = await ask(good)
        if self._trace is not None:
            _trace_parts(self._trace, began, prediction.timings)
        self._headers["Server-Timing"] = _server_timing(prediction.timings)
        results = iter(prediction.results)
        merged = [item if isinstance(item, HooperError) else next(results) for item in items]
        return Prediction(merged, prediction.timings)

    def _envelope(self, deployment: Deployment, prediction: Prediction, wrap: Callable[[Result], ResultT]) -> Envelope[ResultT]:
        manifest = deployment.manifest
        results: list[ResultT | FailedItem] = [
            failed(one) if isinstance(one, HooperError) else wrap(one) for one in prediction.results
        ]
        return _ENVELOPE.model_construct(
            model=ModelRef.model_construct(name=manifest.name, version=manifest.version),
            results=results,
            usage=Usage.model_construct(num_tokens=prediction.num_tokens),
        )


async def _call(
    request: Request,
    response: Response,
    afterwards: BackgroundTasks,
    x_request_timeout_ms: Annotated[
        int | None,
        Header(ge=1, le=MAX_TIMEOUT_MS, description="Milliseconds after which you no longer want the answer: then 504."),
    ] = None,
    x_priority: Annotated[
        Priority | None,
        Header(
            description="`bulk`: run when nothing interactive waits, and turn away earlier when much does; for work that nobody"
            " sits in front of. Without it `interactive`, and `bulk` for explanations."
        ),
    ] = None,
) -> Call:
    trace = request.scope.get(TRACE)
    state = live_state(request)
    return Call(request.scope[TOLD], response.headers, state, x_request_timeout_ms, x_priority, afterwards, trace)


Asked = Annotated[Call, Depends(_call)]
"""What a native route is given."""


def _server_timing(timings: Timings) -> str:
    """Milliseconds, and the rows of the batch: a description, since the header knows no counts."""
    parts = {"tokenize": timings.tokenize_s, "queue": timings.queue_s, "inference": timings.inference_s}
    spent = [f"{name};dur={seconds * 1000:.2f}" for name, seconds in parts.items()]
    return ", ".join([*spent, f'batch;desc="{timings.batch_rows} {"row" if timings.batch_rows == 1 else "rows"}"'])


def _trace_parts(trace: Trace, began: float, timings: Timings) -> None:
    spent = {"tokenize": timings.tokenize_s, "queue": timings.queue_s, "inference": timings.inference_s}
    trace.spent(began, spent, {"hooper.batch_rows": timings.batch_rows, "hooper.batch_tokens": timings.batch_tokens})


def _check_results(request: NativeRequest | ExplainRequest | FeedbackRequest, results: Sequence[Result | HooperError]) -> None:
    """Raise what a single item failed with, or what all of a list's failed with where the fault is not their own."""
    if not isinstance(request.inputs, list) or all(isinstance(one, Unavailable) or _of(request, one) for one in results):
        for one in results:
            if isinstance(one, InvalidInput) and not _of(request, one):
                raise InvalidInput(one.reason, "inputs") if isinstance(request.inputs, str) else one.within("inputs")
            if isinstance(one, HooperError):
                raise one


def _of(request: NativeRequest | ExplainRequest | FeedbackRequest, one: Result | HooperError) -> bool:
    """Whether an error is about a field that stands beside `inputs`, not in it."""
    return isinstance(one, InvalidInput) and one.field is not None and hasattr(request, one.field)

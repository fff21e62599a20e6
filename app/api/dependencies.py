"""What routes are given: the live state of the application, and the call that a request makes of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from app.api.middleware import TOLD
from app.api.schemas.common import Envelope, FailedItem, ModelRef, Usage, failed
from app.core.errors import HooperError, InvalidInput, Unavailable
from app.core.types import TaskName
from app.observability.metrics import Metrics
from app.serving.deployment import Deployment, Prediction, Result, Timings
from app.serving.registry import Registry
from app.settings import Settings

ResultT = TypeVar("ResultT", bound=BaseModel)
MAX_TIMEOUT_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Live:
    """Everything that lives as long as the application."""

    settings: Settings
    registry: Registry
    metrics: Metrics
    load: Callable[[str, int | None], Awaitable[Deployment]]
    """Load a model from the repository and move its name to it."""


class NativeRequest(Protocol):
    """The body of a native route."""

    inputs: Any
    model: str | None

    def items(self) -> Sequence[Any]: ...

    def options(self) -> Any: ...


async def live(request: Request) -> Live:  # async, as all dependencies here: FastAPI runs others on a thread
    state: Live = request.app.state.hooper
    return state


class Call:
    """One request to a task: leases a model, asks it, and wraps what came back."""

    def __init__(self, told: dict[str, str], response: Response, state: Live, timeout_ms: int | None) -> None:
        """
        Args:
            told: where the task and the model are told to the metrics and the log.
            response: gets the header Server-Timing.
            state: what lives.
            timeout_ms: milliseconds after which the caller no longer wants the answer.
        """
        self._told, self._response, self._state = told, response, state
        self._deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000

    async def answer(self, task: TaskName, request: NativeRequest, wrap: Callable[[Result], ResultT]) -> Envelope[ResultT]:
        """Answer a native request; see the HTTP contract for what fails as a whole and what fails alone."""
        self._told["task"] = task
        items = request.items()
        if len(items) > self._state.settings.max_items:
            raise InvalidInput(f"{len(items)} items are too many; at most {self._state.settings.max_items}", "inputs")
        with self._state.registry.lease(task, request.model) as deployment:
            self._told["model"] = deployment.manifest.name
            prediction = await self._predict(deployment, items, request.options())
            if not isinstance(request.inputs, list) or _all_down(prediction.results):
                _raise_first(prediction.results, "" if isinstance(request.inputs, str) else "inputs")
            return self._envelope(deployment, prediction, wrap)

    async def _predict(self, deployment: Deployment, items: Sequence[Any], options: Any) -> Prediction:
        good = [item for item in items if not isinstance(item, HooperError)]
        if not good:
            return Prediction(list(items), Timings(0, 0, 0))
        prediction = await deployment.predict(good, options, self._deadline)
        results = iter(prediction.results)
        merged = [item if isinstance(item, HooperError) else next(results) for item in items]
        return Prediction(merged, prediction.timings)

    def _envelope(self, deployment: Deployment, prediction: Prediction, wrap: Callable[[Result], ResultT]) -> Envelope[ResultT]:
        manifest, timings = deployment.manifest, prediction.timings
        self._response.headers["Server-Timing"] = _server_timing(timings)
        results: list[ResultT | FailedItem] = [
            failed(one) if isinstance(one, HooperError) else wrap(one) for one in prediction.results
        ]
        return Envelope[Any].model_construct(
            model=ModelRef.model_construct(name=manifest.name, version=manifest.version),
            results=results,
            usage=Usage.model_construct(num_tokens=prediction.num_tokens),
        )


async def _call(
    request: Request,
    response: Response,
    state: Annotated[Live, Depends(live)],
    x_request_timeout_ms: Annotated[
        int | None,
        Header(ge=1, le=MAX_TIMEOUT_MS, description="Milliseconds after which you no longer want the answer: then 504."),
    ] = None,
) -> Call:
    return Call(request.scope[TOLD], response, state, x_request_timeout_ms)


Asked = Annotated[Call, Depends(_call)]
"""What a native route is given."""


def _server_timing(timings: Timings) -> str:
    """Milliseconds, and the rows of the batch: a description, since the header knows no counts."""
    parts = {"tokenize": timings.tokenize_s, "queue": timings.queue_s, "inference": timings.inference_s}
    spent = [f"{name};dur={seconds * 1000:.2f}" for name, seconds in parts.items()]
    return ", ".join([*spent, f'batch;desc="{timings.batch_rows} {"row" if timings.batch_rows == 1 else "rows"}"'])


def _all_down(results: Sequence[Result | HooperError]) -> bool:
    return all(isinstance(one, Unavailable) for one in results)


def _raise_first(results: Sequence[Result | HooperError], within: str) -> None:
    """Raise what a single item failed with; `within` is the field that holds the item's fields, if it is an object."""
    for one in results:
        if isinstance(one, InvalidInput):
            raise one.within(within) if within else InvalidInput(one.reason, "inputs")
        if isinstance(one, HooperError):
            raise one

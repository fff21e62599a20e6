"""What routes are given: the state of the application, and the context in which a request asks a model."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, Header, Request, Response
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders

from app.api.auth import CALLER
from app.api.protocols.envelope import Envelope, ModelRef, Usage, failed
from app.api.protocols.explain import ExplainRequest
from app.api.protocols.feedback import FeedbackRequest
from app.api.protocols.results import ExplainResult, FeedbackResult
from app.api.rates import KeyNewTokens, KeyRates
from app.api.scope import LOG_FIELDS, TRACE
from app.core.artefact import oldest
from app.core.errors import HooperError, InvalidInput, TooLarge, TooManyItems, Unavailable, UnknownModel
from app.core.types import Priority
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
from app.tasks.base import Result, StreamedText
from app.tasks.registry import Tasks
from app.tasks.schemas import NativeRequest
from app.tasks.spec import Served, TaskSpec

Wrap = Callable[[Result], BaseModel]
"""From a task's answer to what stands in `results`."""
MAX_TIMEOUT_MS = 3_600_000
TimeoutMs = Annotated[
    int | None,
    Header(ge=1, le=MAX_TIMEOUT_MS, description="Milliseconds after which you no longer want the answer: then 504."),
]
Priorities = Annotated[
    Priority | None,
    Header(
        description="`bulk`: run when nothing interactive waits, and turn away earlier when much does; for work that nobody"
        " sits in front of. Without it `interactive`, and `bulk` for explanations."
    ),
]
_ENVELOPE = Envelope[Any]
"""Here, since pydantic looks for a specialization every time it is asked for one."""


async def _forget(deployment: Deployment, why: str) -> None:
    """Where nothing outlives the process."""


@dataclass(frozen=True, slots=True)
class AppState:
    """Everything that lives as long as the application."""

    settings: Settings
    tasks: Tasks
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
    key_new_tokens: KeyNewTokens = field(default_factory=lambda: KeyNewTokens(0))

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


async def app_state(request: Request) -> AppState:  # async, as all dependencies here: FastAPI runs others on a thread
    return app_state_of(request)


StateDep = Annotated[AppState, Depends(app_state)]
"""What a route is given that asks no model, or not one alone."""


def app_state_of(request: Request) -> AppState:
    """For what is itself a dependency: FastAPI takes 30 microseconds for each one below another."""
    state: AppState = request.app.state.hooper
    return state


class PredictContext:
    """One request to a model: leases it, asks it, and tells what it was and how long it took.

    A native route needs `answer` alone; other protocols `lease`, then `results`, and wrap those themselves.
    """

    def __init__(
        self,
        log_fields: dict[str, str],
        headers: MutableMapping[str, str] | MutableHeaders,
        state: AppState,
        timeout_ms: int | None,
        priority: Priority | None,
        background_tasks: BackgroundTasks,
        trace: Trace | None = None,
        caller: str | None = None,
    ) -> None:
        """
        Args:
            log_fields: where task and model are noted for the metrics and the log.
            headers: of the answer; Server-Timing is put there.
            timeout_ms: milliseconds after which the caller no longer wants the answer.
            background_tasks: what is done once the answer was sent.
            trace: where is noted what was asked and where the time went; None where traces are off.
            caller: hash of the key that was brought; None: none was wanted.
        """
        self._trace, self._caller = trace, caller
        self._log_fields, self._headers, self._state, self._priority = log_fields, headers, state, priority
        self._afterwards = background_tasks
        self._deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000

    @property
    def headers(self) -> dict[str, str]:
        """What a route that makes its own response puts on it."""
        return dict(self._headers)

    @property
    def max_items(self) -> int:
        """Items that a request may hold."""
        return self._state.settings.max_items

    async def answer(self, tasks: Sequence[str], request: NativeRequest, served: Mapping[str, Served]) -> Envelope[Any]:
        """Answer a native request; see the HTTP contract for what fails as a whole and what fails alone.

        Args:
            tasks: those of the route, in the order in which their default models are asked.
        """
        with self._lease_for(tasks, request, served) as (deployment, own):
            prediction = await self._asked(deployment, own, request)
            if own.arrange is None:
                _check_results(request, prediction.results)
                return self._envelope(deployment, prediction, own.wrap)
            arranged = own.arrange(request, prediction.results)
            _check_results(request, [entry for _, entry in arranged])
            results = [
                failed(entry, number if own.route.is_whole else None) if isinstance(entry, HooperError) else entry
                for number, entry in arranged
            ]
            return _envelope_of(deployment, prediction, results)

    async def _asked(self, deployment: Deployment, own: Served, request: Any) -> Prediction:
        """What the model says to a request of a native route.

        Raises:
            UnknownModel: it cannot serve the route.
        """
        items, options = _asked_of(deployment, own, request)
        return await self._predict(deployment, items, options, is_counted=not own.is_adapted)

    async def stream(
        self, tasks: Sequence[str], request: NativeRequest, served: Mapping[str, Served]
    ) -> AsyncGenerator[StreamedText | Envelope[Any]]:
        """What `answer` gives for one item, behind the pieces of its text as they are written.

        Raises:
            InvalidInput: the request has a list of items, or its model does not write.
        """
        with self._lease_for(tasks, request, served) as (deployment, own):
            items, options = _asked_of(deployment, own, request)
            if isinstance(getattr(request, request.items_field), list):
                raise InvalidInput("takes one item, not a list", "stream")
            async with aclosing(self.pieces(deployment, items[0], options)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, StreamedText):
                        yield piece
                    else:
                        _check_results(request, piece.results)
                        yield self._envelope(deployment, piece, own.wrap)

    async def pieces(
        self, deployment: Deployment, item: Any, options: Any, timeout_s: float | None = None
    ) -> AsyncGenerator[StreamedText | Prediction]:
        """See `Deployment.stream`.

        Args:
            deployment: what `lease` gave.
            timeout_s: as of `results`.

        Raises:
            InvalidInput: the model does not write.
        """
        if not deployment.spec.is_generative:
            raise InvalidInput(f"models for {deployment.spec.name} write nothing that could be sent piece by piece", "stream")
        self._wait_at_most(timeout_s)
        self._state.key_new_tokens.check(self._caller)
        began = time.monotonic()
        stream = deployment.stream(
            item, options, self._deadline, self._priority or "interactive", self._count_written, self._caller or ""
        )
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                if isinstance(piece, Prediction) and self._trace is not None:
                    _trace_parts(self._trace, began, piece.timings)
                if isinstance(piece, Prediction) and self._state.shadows.are_wanted(deployment):
                    self._afterwards.add_task(self._state.shadows.send, copy_of(deployment, [item], options, piece))
                yield piece

    @contextmanager
    def _lease_for(
        self, tasks: Sequence[str], request: NativeRequest, served: Mapping[str, Served]
    ) -> Iterator[tuple[Deployment, Served]]:
        """The deployment that a native request is for, and how its task serves the route."""
        able = [task for task in tasks if served[task].is_for(request)] or tasks
        with self.lease(able, request.model or self._capable(served)) as deployment:
            yield deployment, served[deployment.manifest.task]

    def _capable(self, served: Mapping[str, Served]) -> str | None:
        """Of the first task with a model that can serve a route the default, or where that cannot the one published first; None
        where all can, or none."""
        if all(entry.refusal is None for entry in served.values()):
            return None
        registry = self._state.registry
        manifests = [entry.manifest for entry in registry.deployments]
        for task, own in served.items():
            capable = {each.name: each.first_published for each in manifests if each.task == task and not own.refuses(each)}
            if capable:
                default = registry.default_of(task)
                return default if default in capable else oldest(capable)
        return None

    async def explain(self, request: ExplainRequest) -> Envelope[Any]:
        """Explain what a model answers to the items; the model, or else the first item's shape, says which task it is."""
        with self.lease(request.candidates(self._state.tasks), request.model) as deployment:
            prediction = await self._merged(
                request.items(deployment.spec),
                lambda good: explain(deployment, good, request.options(), self._deadline, self._priority or "bulk"),
            )
            _check_results(request, prediction.results)
            return self._envelope(deployment, prediction, ExplainResult.of)

    async def correct(self, request: FeedbackRequest) -> Envelope[Any]:
        """Keep corrections; the model, or else the first one's shape, says which task they are of."""
        writer = self._state.feedback
        writer.check_open()
        note = Note(request.request_id or request_id.get(), request.source, request.comment)
        with self.lease(request.candidates(self._state.tasks), request.model) as deployment:
            if deployment.spec.correction is None:
                raise UnknownModel(f"models for {deployment.spec.name} take no corrections")
            prediction = await self._merged(
                request.items(deployment.spec),
                lambda good: correct(deployment, good, note, writer, self._deadline, self._priority or "interactive"),
            )
            _check_results(request, prediction.results)
            return self._envelope(deployment, prediction, FeedbackResult.of)

    @contextmanager
    def lease(self, tasks: Sequence[str], model: str | None) -> Iterator[Deployment]:
        """The deployment to ask, noted for the metrics and the log; see `Registry.assign`."""
        if tasks:
            self._log_fields["task"] = tasks[0]
        with self._state.registry.assign(tasks, model) as deployment:
            manifest = deployment.manifest
            self._log_fields |= {"task": manifest.task, "model": manifest.name, "version": str(manifest.version)}
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
            place: from an item's number and the name of its field, which may be empty, to how the caller names it.
            advice: the option with which a text that is too long would be read, as the protocol writes it.
            timeout_s: seconds after which the caller no longer wants the answer, where the protocol has a field for it.

        Raises:
            HooperError: the first item's that could not be answered, or one that concerns the whole request.
        """
        self._wait_at_most(timeout_s)
        prediction = await self._predict(deployment, items, options)
        return self._all_good(prediction.results, place, advice)

    async def route_results(
        self,
        deployment: Deployment,
        own: Served,
        request: Any,
        place: Callable[[int, str], str],
        advice: str,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """The same for a native route whose items are not the task's own: its results, in the order of the request's inputs."""
        self._wait_at_most(timeout_s)
        prediction = await self._asked(deployment, own, request)
        return self._all_good(own.told(request, prediction.results), place, advice)

    def _wait_at_most(self, timeout_s: float | None) -> None:
        if timeout_s is not None:
            until = time.monotonic() + timeout_s
            self._deadline = until if self._deadline is None else min(until, self._deadline)

    def _all_good(self, results: Sequence[Any], place: Callable[[int, str], str], advice: str) -> list[Any]:
        """Results none of which is an error; how many were cut goes into the header X-Truncated."""
        good: list[Any] = []
        for number, result in enumerate(results):
            if isinstance(result, InvalidInput):
                raise InvalidInput(result.reason, place(number, result.field or ""))
            if isinstance(result, TooLarge) and result.truncations:
                raise result.advising(advice)
            if isinstance(result, HooperError):
                raise result
            good.append(result)
        num_cut = sum(item.truncated for item in good)
        if num_cut:
            self._headers["X-Truncated"] = str(num_cut)
        return good

    async def _predict(self, deployment: Deployment, items: Sequence[Any], options: Any, is_counted: bool = True) -> Prediction:
        max_tokens = self._check_answer_size(deployment, len(items), options)
        if deployment.spec.is_generative:
            self._state.key_new_tokens.check(self._caller)

        async def ask(good: Sequence[Any]) -> Prediction:
            priority = self._priority or "interactive"
            prediction = await deployment.predict(
                good,
                options,
                self._deadline,
                priority,
                on_written=self._count_written,
                prefix_owner=self._caller or "",
                max_tokens=max_tokens,
            )
            if self._state.shadows.are_wanted(deployment):
                self._afterwards.add_task(self._state.shadows.send, copy_of(deployment, good, options, prediction))
            return prediction

        return await self._merged(items, ask, is_counted)

    def _count_written(self, num_tokens: int) -> None:
        if self._trace is not None:
            self._trace.attributes["hooper.num_new_tokens"] = num_tokens
        self._state.key_new_tokens.count(self._caller, num_tokens)

    def _check_answer_size(self, deployment: Deployment, num_items: int, options: Any) -> int | None:
        """The tokens that the items may have together; None: any number."""
        item_bytes, token_bytes = deployment.spec.answer_bytes(deployment.manifest.task_options, options)
        num_bytes, limit = num_items * item_bytes, self._state.settings.max_answer_bytes
        if num_bytes > limit:
            raise TooLarge(
                f"the answer to {num_items} items would have up to {num_bytes} bytes, more than the {limit} that one may have;"
                " send them in several requests"
            )
        return limit // token_bytes if token_bytes else None

    async def _merged(
        self, items: Sequence[Any], ask: Callable[[Sequence[Any]], Awaitable[Prediction]], is_counted: bool = True
    ) -> Prediction:
        """Ask for the items that are none of them an error already, and put those errors in their places.

        Args:
            items: of the request, or what a task makes of them.
            is_counted: whether these are as many as a person sent; else those were counted when the body was read.
        """
        max_items = self._state.settings.max_items
        num_items = sum(getattr(item, "num_texts", 1) for item in items)
        if is_counted and num_items > max_items:
            raise TooManyItems(f"{num_items} items are too many; at most {max_items}", "inputs")
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

    def _envelope(self, deployment: Deployment, prediction: Prediction, wrap: Wrap) -> Envelope[Any]:
        results = [failed(result) if isinstance(result, HooperError) else wrap(result) for result in prediction.results]
        return _envelope_of(deployment, prediction, results)


def _asked_of(deployment: Deployment, own: Served, request: Any) -> tuple[Sequence[Any], Any]:
    """The task's own items and options of a request.

    Raises:
        UnknownModel: the model cannot serve the route.
    """
    manifest = deployment.manifest
    if refusal := own.refuses(manifest):
        raise UnknownModel(f"model {manifest.name!r} {refusal}; name another as `model`")
    return own.items_of(request, manifest.task_options), own.options(request)


def _envelope_of(deployment: Deployment, prediction: Prediction, results: Sequence[BaseModel]) -> Envelope[Any]:
    manifest = deployment.manifest
    return _ENVELOPE.model_construct(
        model=ModelRef.model_construct(name=manifest.name, version=manifest.version),
        results=results,
        usage=Usage.model_construct(num_tokens=prediction.num_tokens),
    )


async def _context(
    request: Request,
    response: Response,
    background_tasks: BackgroundTasks,
    x_request_timeout_ms: TimeoutMs = None,
    x_priority: Priorities = None,
) -> PredictContext:
    scope = request.scope
    state = app_state_of(request)
    return PredictContext(
        scope[LOG_FIELDS], response.headers, state, x_request_timeout_ms, x_priority, background_tasks, scope.get(TRACE),
        scope.get(CALLER),
    )  # fmt: skip


ContextDep = Annotated[PredictContext, Depends(_context)]
"""What a native route is given."""


def _server_timing(timings: Timings) -> str:
    """Milliseconds, and the rows of the batch: a description, since the header knows no counts."""
    parts = {"tokenize": timings.tokenize_s, "queue": timings.queue_s, "inference": timings.inference_s}
    entries = [f"{name};dur={seconds * 1000:.2f}" for name, seconds in parts.items()]
    return ", ".join([*entries, f'batch;desc="{timings.batch_rows} {"row" if timings.batch_rows == 1 else "rows"}"'])


def _trace_parts(trace: Trace, began: float, timings: Timings) -> None:
    seconds = {"tokenize": timings.tokenize_s, "queue": timings.queue_s, "inference": timings.inference_s}
    trace.add_spans(began, seconds, {"hooper.batch_rows": timings.batch_rows, "hooper.batch_tokens": timings.batch_tokens})


def _check_results(request: NativeRequest | ExplainRequest | FeedbackRequest, results: Sequence[object]) -> None:
    """Raise what a single item failed with, or what all of a list's failed with where the fault is not their own."""
    field = request.items_field
    sent = getattr(request, field)
    if not isinstance(sent, list) or all(isinstance(result, Unavailable) or _of(request, result) for result in results):
        for result in results:
            if isinstance(result, InvalidInput) and not _of(request, result):
                raise InvalidInput(result.reason, field) if isinstance(sent, str) else result.within(field)
            if isinstance(result, HooperError):
                raise result


def _of(request: NativeRequest | ExplainRequest | FeedbackRequest, result: object) -> bool:
    """Whether an error is about a field that stands beside the items, not in one."""
    return isinstance(result, InvalidInput) and bool(result.field) and hasattr(request, str(result.field).partition(".")[0])


def no_codec(spec: TaskSpec) -> UnknownModel:
    """For a protocol that the task does not speak."""
    return UnknownModel(f"models for {spec.name} do not answer over this protocol")

"""create_app(settings): the composition root. The lifespan owns every resource."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from app.api.application import Lifespan, build_application, product_version
from app.api.context import AppState
from app.api.rates import KeyNewTokens, KeyRates
from app.core.errors import HooperError, SetupError
from app.observability.metrics import Metrics
from app.observability.tracing import Traces, close_traces, open_traces
from app.runtime.decoder_session import DecoderFactory, open_decoder
from app.runtime.onnx_session import SessionFactory, open_session
from app.serving.deployment import Deployment
from app.serving.failures import without_paths
from app.serving.feedback import FeedbackWriter
from app.serving.loader import LoadOptions, load
from app.serving.registry import Registry
from app.serving.repository import Repository
from app.serving.rollout.recovery import EngineRecovery
from app.serving.rollout.shadow import Shadows
from app.serving.versions import Versions
from app.settings import Settings
from app.tasks.registry import Tasks, installed_tasks

logger = logging.getLogger(__name__)

OpenModels = Callable[[FastAPI, Settings, Metrics], AbstractAsyncContextManager[AppState]]
"""Makes what lives as long as the application, and closes it in the end."""


def create_app(
    settings: Settings,
    on_setup_error: Callable[[HooperError], None] | None = None,
    session_factory: SessionFactory = open_session,
    draw: Callable[[], float] = random.random,
    metrics: Metrics | None = None,
    open_models: OpenModels | None = None,
    decoder_factory: DecoderFactory = open_decoder,
) -> FastAPI:
    """The application; models load in the background from the moment it starts, and readiness tells when they are there.

    Args:
        on_setup_error: called when no model can be loaded at the start; without it the service stays up, not ready.
        draw: a number from 0 up to 1 for each request of which another version has a share.
        metrics: what counts; by default this application's own.
        open_models: where the models are; by default they are loaded here, in this process.

    Raises:
        SetupError: traces are wished for, and what makes them is not installed; or an installed task cannot be taken.
        InvalidSettings: a default is named for a task that there is none of.
    """
    metrics = metrics or Metrics()
    tasks = tasks_of(settings)
    traces = open_traces(settings.traces_endpoint, product_version())
    load_model = partial(load, session_factory=session_factory, decoder_factory=decoder_factory)
    open_models = open_models or partial(load_models, on_setup_error=on_setup_error, load_model=load_model, draw=draw)
    return build_application(settings, tasks, metrics, _lifespan(open_models, settings, metrics, traces), traces)


def _lifespan(open_models: OpenModels, settings: Settings, metrics: Metrics, traces: Traces | None) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with open_models(app, settings, metrics) as state:
                registry = state.registry
                metrics.track(
                    lambda: [live.deployment.live_model(live.role.name, live.role.share) for live in registry.live],
                    lambda: [failed.name for failed in registry.failed],
                )
                app.state.hooper = state
                yield
        finally:
            await close_traces(traces)

    return lifespan


@asynccontextmanager
async def load_models(
    app: FastAPI,
    settings: Settings,
    metrics: Metrics,
    *,
    on_setup_error: Callable[[HooperError], None] | None,
    load_model: Callable[..., Awaitable[Deployment]],
    draw: Callable[[], float],
) -> AsyncIterator[AppState]:
    """Models of this process, loaded by a task that `app.state.loading` holds."""
    registry = Registry(settings.drain_s, draw)
    repository = Repository(settings.models, settings.state)
    options = LoadOptions.from_settings(settings)
    load_artefact = partial(load_model, options=options, metrics=metrics)
    recovery = EngineRecovery(registry, load_artefact, settings.engine_replacements, metrics)
    versions = Versions(registry, repository, load_artefact, recovery)
    shadows = Shadows(registry, metrics)
    feedback = FeedbackWriter(metrics, settings.feedback, settings.feedback_max_bytes)
    rates, new_tokens = KeyRates(settings.key_requests_per_minute), KeyNewTokens(settings.key_new_tokens_per_minute)

    async def load_all() -> None:
        await feedback.open()
        failed = await versions.load_all(settings.serve, settings.default_models, options.tasks)
        if not registry.deployments:
            raise nothing_loaded(failed)

    start = _started(load_all, registry, settings, on_setup_error)
    loading = app.state.loading = asyncio.create_task(start, name="load-models")
    try:
        yield AppState(
            settings, options.tasks, registry, metrics, versions.load, shadows, rates, feedback, versions.save, new_tokens
        )
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await shadows.aclose()
        await recovery.aclose()
        await registry.aclose()
        await feedback.aclose()  # last: whoever holds a lease may still be writing


async def _started(
    load_all: Callable[[], Awaitable[None]],
    registry: Registry,
    settings: Settings,
    on_setup_error: Callable[[HooperError], None] | None,
) -> None:
    """Say how the start has ended."""
    try:
        await load_all()
    except Exception as error:  # whatever it is: a service that does not get ready must say why
        failure = error if isinstance(error, HooperError) else SetupError(f"loading failed ({error!r})")
        logger.error("cannot start: %s", failure.detail)
        registry.start_failure = without_paths(f"cannot start: {failure.detail}", settings.models)
        if on_setup_error is not None:
            on_setup_error(failure)
        return
    registry.loading_finished()
    if registry.unmet_reason:
        logger.error("not ready: %s", registry.unmet_reason)
    loaded = [f"{deployment.manifest.name}/{deployment.manifest.version}" for deployment in registry.deployments]
    logger.info("%s: %s", "loaded" if registry.unmet_reason else "ready", ", ".join(loaded))


def tasks_of(settings: Settings) -> Tasks:
    """The tasks that are served.

    Raises:
        SetupError: an installed task cannot be taken.
        InvalidSettings: a default is named for a task that there is none of.
    """
    tasks = installed_tasks(settings.tasks)
    tasks.check_defaults(settings.default_models)
    return tasks


def nothing_loaded(failures: Sequence[tuple[str, Exception]]) -> Exception:
    """What a start ends with that has loaded nothing: the one reason, or all of them."""
    if len(failures) == 1:
        return failures[0][1]
    reasons = (f"{model}: {error.detail if isinstance(error, HooperError) else repr(error)}" for model, error in failures)
    return SetupError(f"none of {len(failures)} models could be loaded: {'; '.join(reasons)}")

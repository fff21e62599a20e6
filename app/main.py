"""create_app(settings): the composition root. The lifespan owns every resource."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.api.application import build_application, product_version
from app.api.dependencies import Live
from app.api.rate import KeyRates
from app.batching.admission import QueueLimit
from app.core.artefact import Artefact
from app.core.errors import HooperError, InvalidSettings, SetupError
from app.observability.metrics import Metrics
from app.observability.tracing import close_traces, open_traces
from app.runtime.onnx_session import SessionFactory, open_session
from app.serving.deployment import Deployment
from app.serving.failures import without_paths
from app.serving.feedback import FeedbackWriter
from app.serving.loader import TASK_KINDS, LoadOptions, load
from app.serving.registry import Registry
from app.serving.repository import Repository
from app.serving.rollout.recovery import EngineRecovery
from app.serving.rollout.shadow import Shadows
from app.serving.versions import Versions
from app.settings import Settings

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings,
    on_setup_error: Callable[[HooperError], None] | None = None,
    session_factory: SessionFactory = open_session,
    draw: Callable[[], float] = random.random,
    metrics: Metrics | None = None,
) -> FastAPI:
    """The application; models load in the background from the moment it starts, and readiness tells when they are there.

    Args:
        settings: every knob.
        on_setup_error: called when no model can be loaded at the start; without it the service stays up, not ready.
        session_factory: what opens a model's graph.
        draw: a number from 0 up to 1 for each request of which another version has a share.
        metrics: what counts; by default this application's own.

    Raises:
        SetupError: traces are wished for, and what makes them is not installed.
        InvalidSettings: a default is named for a task that there is none of.
    """
    check_tasks(settings)
    metrics = metrics or Metrics()
    traces = open_traces(settings.traces_endpoint, product_version())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        registry = Registry(settings.drain_s, draw)
        repository = Repository(settings.models, settings.state)
        options = load_options(settings)

        async def load_bare(artefact: Artefact) -> Deployment:
            return await load(artefact, options, metrics, session_factory)

        replacement = EngineRecovery(registry, load_bare, settings.engine_replacements, metrics)

        versions = Versions(registry, repository, load_bare, replacement)
        shadows = Shadows(registry, metrics)

        desk = FeedbackWriter(metrics, settings.feedback, settings.feedback_max_bytes)

        async def load_all() -> None:
            try:
                await desk.open()
                wished = dict(settings.default_models)
                failed = await versions.load_all(settings.serve, wished)
                if not registry.deployments:
                    raise nothing_loaded(failed)
            except Exception as error:  # whatever it is: a service that does not get ready must say why
                failure = error if isinstance(error, HooperError) else SetupError(f"loading failed ({error!r})")
                logger.error("cannot start: %s", failure.detail)
                registry.start_failure = without_paths(f"cannot start: {failure.detail}", settings.models)
                if on_setup_error is not None:
                    on_setup_error(failure)
            else:
                registry.loading_finished()
                loaded = [f"{one.manifest.name}/{one.manifest.version}" for one in registry.deployments]
                if registry.unmet_reason:
                    logger.error("not ready: %s", registry.unmet_reason)
                logger.info("%s: %s", "loaded" if registry.unmet_reason else "ready", ", ".join(loaded))

        metrics.track(
            lambda: [one.deployment.live_model(one.role.name, one.role.share) for one in registry.live],
            lambda: [one.name for one in registry.failed],
        )
        rates = KeyRates(settings.key_requests_per_minute)
        app.state.hooper = Live(settings, registry, metrics, versions.load, shadows, rates, desk, versions.save)
        loading = asyncio.create_task(load_all(), name="load-models")
        app.state.loading = loading
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await shadows.aclose()
            await replacement.aclose()
            await registry.aclose()
            await desk.aclose()  # last: whoever holds a lease may still be writing
            await close_traces(traces)

    return build_application(settings, metrics, lifespan, traces)


def check_tasks(settings: Settings) -> None:
    """
    Raises:
        InvalidSettings: a default is named for a task that there is none of.
    """
    for task in settings.default_models:
        if task not in TASK_KINDS:
            raise InvalidSettings(f"HOOPER_DEFAULT_MODELS: there is no task {task!r}; there are {', '.join(TASK_KINDS)}")


def nothing_loaded(failures: Sequence[tuple[str, Exception]]) -> Exception:
    """What a start ends with that has loaded nothing: the one reason, or all of them."""
    if len(failures) == 1:
        return failures[0][1]
    reasons = (f"{model}: {one.detail if isinstance(one, HooperError) else repr(one)}" for model, one in failures)
    return SetupError(f"none of {len(failures)} models could be loaded: {'; '.join(reasons)}")


def load_options(settings: Settings) -> LoadOptions:
    return LoadOptions(
        device=settings.device,
        num_threads=settings.engine_threads,
        max_batch_tokens=settings.max_batch_tokens,
        max_batch_rows=settings.max_batch_rows,
        queue=QueueLimit(settings.max_waiting_rows, settings.max_waiting_tokens),
        engine_run_s=settings.engine_run_s,
        num_streams=settings.engine_streams,
        precision=settings.precision,
        cuda_graphs=settings.cuda_graphs,
    )

"""A front end: the HTTP application over models that the engine process runs. Started by the supervisor."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import uvicorn

from app.api.application import build_application, product_version
from app.api.dependencies import Live
from app.api.shared_rate import SharedKeyRates
from app.core.errors import SetupError
from app.core.exit_codes import EXIT_SETUP
from app.ipc.mirror import Mirror
from app.observability.logging import set_up_logging
from app.observability.metrics import SharedMetrics
from app.observability.tracing import close_traces, open_traces
from app.processes.child import ChildConfig, beat, on_stop_request, receive, report_failure
from app.processes.http import configured, freeze_heap, inherited, on_ending_signals
from app.serving.deployment import Deployment
from app.serving.feedback import FeedbackWriter
from app.serving.rollout.shadow import Shadows
from app.settings import Settings

FIRST_S = 5.0
"""So long a front end waits, before it accepts anybody, to hear what is loaded."""


@dataclass(frozen=True, slots=True)
class FrontEndLive(Live):
    """As in one process, but the models are the engine process's, and a name is forgotten by all front ends."""

    mirror: Mirror = field(kw_only=True)

    async def engine_answers(self) -> None:
        await self.mirror.ping()

    async def promote(self, name: str) -> Deployment:
        return await self.mirror.promote(name)

    async def unload(self, name: str, version: int | None) -> None:
        await self.mirror.unload(name, version)


def create_front_end(given: ChildConfig, settings: Settings, metrics: SharedMetrics, end: Callable[[], None]) -> Any:
    """The application; `end` is called when the supervisor says so, or when the engine process cannot be followed."""
    traces = open_traces(settings.traces_endpoint, product_version())
    hashes = (*settings.api_key_hashes, *settings.admin_key_hashes)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        beating = asyncio.create_task(beat(), name="beat")
        on_stop_request(end)
        mirror = Mirror(given.engine_socket, given.name, settings.drain_s, metrics, end)
        rates = SharedKeyRates(settings.key_requests_per_minute, given.rates_file, hashes)
        metrics.track(
            lambda: [one.deployment.live_model(one.role.name, one.role.share) for one in mirror.registry.live],
            lambda: [one.name for one in mirror.registry.failed],
        )
        shadows, desk = Shadows(mirror.registry, metrics), FeedbackWriter(metrics)
        app.state.hooper = FrontEndLive(settings, mirror.registry, metrics, mirror.load, shadows, rates, desk, mirror=mirror)
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await mirror.has_followed.wait()
        try:
            yield
        finally:
            await shadows.aclose()
            await mirror.aclose()
            await desk.aclose()
            await close_traces(traces)
            rates.close()
            beating.cancel()

    return build_application(settings, metrics, lifespan, traces)


class Server(uvicorn.Server):
    """Finishes at any signal, be it after the supervisor's word; uvicorn would cut everything off at the second sign to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True


def main() -> int:
    given = receive()
    settings = given.read_settings()
    set_up_logging(settings.log_level)
    metrics = SharedMetrics(given.metrics_folder, given.place, "front_end", given.is_successor)

    def end() -> None:
        server.should_exit = True

    on_ending_signals(end)  # before and after those that the server hears
    try:
        server = Server(configured(create_front_end(given, settings, metrics, end), settings))
    except SetupError as error:
        report_failure(error.detail)
        return EXIT_SETUP
    freeze_heap()
    server.run(inherited(given.sockets))
    return 0


if __name__ == "__main__":
    sys.exit(main())

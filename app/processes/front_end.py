"""A front end: the HTTP application over models that the engine process runs. Started by the supervisor."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from app.api.application import build_application
from app.api.dependencies import Live
from app.api.shared_rate import SharedKeyRates
from app.link.mirror import Mirror
from app.observability.logging import set_up_logging
from app.observability.shared import SharedMetrics
from app.processes.given import Given, beat, receive, until_told
from app.processes.http import configured
from app.processes.listening import inherited
from app.settings import Settings

FIRST_S = 5.0
"""So long a front end waits, before it accepts anybody, to hear what is loaded."""


@dataclass(frozen=True, slots=True)
class FrontEndLive(Live):
    """As in one process, but the models are the engine process's, and a name is forgotten by all front ends."""

    mirror: Mirror = field(kw_only=True)

    async def engine_answers(self) -> None:
        await self.mirror.ping()

    async def unload(self, name: str) -> None:
        await self.mirror.unload(name)


def create_front_end(given: Given, settings: Settings, metrics: SharedMetrics, end: Callable[[], None]) -> Any:
    """The application; `end` is called when the supervisor says so, or when the engine process cannot be followed."""
    hashes = (*settings.api_key_hashes, *settings.admin_key_hashes)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        beating = asyncio.create_task(beat(), name="beat")
        until_told(end)
        mirror = Mirror(given.engine_socket, given.name, settings.drain_s, metrics, end)
        rates = SharedKeyRates(settings.key_requests_per_minute, given.rates_file, hashes)
        metrics.track(lambda: [one.live_model() for one in mirror.registry.deployments])
        app.state.hooper = FrontEndLive(settings, mirror.registry, metrics, mirror.load, rates, mirror=mirror)
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await mirror.has_followed.wait()
        try:
            yield
        finally:
            await mirror.aclose()
            rates.close()
            beating.cancel()

    return build_application(settings, metrics, lifespan)


def main() -> int:
    given = receive()
    settings = given.read_settings()
    set_up_logging(settings.log_level)
    metrics = SharedMetrics(given.metrics_folder, given.place, "front_end", given.is_successor)

    def end() -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end())  # uvicorn raises a signal again once it has obeyed it: it must not kill us then
    server = uvicorn.Server(configured(create_front_end(given, settings, metrics, end), settings))
    server.run(inherited(given.sockets))
    return 0


if __name__ == "__main__":
    sys.exit(main())

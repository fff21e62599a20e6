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

from app.api.context import AppState
from app.api.rates import KeyNewTokens, KeyRates, SharedBuckets
from app.core.errors import SetupError
from app.core.exit_codes import EXIT_SETUP
from app.ipc.registry import RegistryFollower
from app.main import create_app
from app.observability.logging import set_up_logging
from app.observability.metrics import Metrics, SharedMetrics
from app.processes.child import ChildConfig, heartbeat, on_stop_request, receive_config, report_failure
from app.processes.http import freeze_heap, inherited, on_ending_signals, uvicorn_config
from app.serving.deployment import Deployment
from app.serving.feedback import FeedbackWriter
from app.serving.rollout.shadow import Shadows
from app.settings import Settings
from app.tasks.registry import installed_tasks

FIRST_S = 5.0
"""So long a front end waits, before it accepts anybody, to hear what is loaded."""


@dataclass(frozen=True, slots=True)
class FrontEndState(AppState):
    """As in one process, but the models are the engine process's, and a name is forgotten by all front ends."""

    follower: RegistryFollower = field(kw_only=True)

    async def engine_answers(self) -> None:
        await self.follower.ping()

    async def promote(self, name: str) -> Deployment:
        return await self.follower.promote(name)

    async def unload(self, name: str, version: int | None) -> None:
        await self.follower.unload(name, version)


def create_front_end(config: ChildConfig, settings: Settings, metrics: SharedMetrics, stop: Callable[[], None]) -> Any:
    """The application; `stop` is called when the supervisor says so, or when the engine process cannot be followed."""
    tasks = installed_tasks(settings.tasks)
    hashes = (*settings.api_key_hashes, *settings.admin_key_hashes)

    @asynccontextmanager
    async def follow_engine(app: Any, settings: Settings, metrics: Metrics) -> AsyncIterator[AppState]:
        beating = asyncio.create_task(heartbeat(), name="heartbeat")
        on_stop_request(stop)
        follower = RegistryFollower(config.engine_socket, config.name, settings.drain_s, metrics, stop, tasks)
        asked, written = SharedBuckets(config.rates_file, hashes), SharedBuckets(config.new_tokens_file, hashes)
        rates = KeyRates(settings.key_requests_per_minute, buckets=asked)
        new_tokens = KeyNewTokens(settings.key_new_tokens_per_minute, buckets=written)
        shadows, feedback = Shadows(follower.registry, metrics), FeedbackWriter(metrics)
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await follower.has_followed.wait()
        try:
            yield FrontEndState(
                settings, tasks, follower.registry, metrics, follower.load, shadows, rates, feedback,
                key_new_tokens=new_tokens, follower=follower,
            )  # fmt: skip
        finally:
            await shadows.aclose()
            await follower.aclose()
            await feedback.aclose()
            asked.close()
            written.close()
            beating.cancel()

    return create_app(settings, metrics=metrics, open_models=follow_engine)


class Server(uvicorn.Server):
    """Finishes at any signal, be it after the supervisor's word; uvicorn would cut everything off at the second sign to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True


def main() -> int:
    config = receive_config()
    settings = config.read_settings()
    set_up_logging(settings.log_level, settings.log_format)
    metrics = SharedMetrics(config.metrics_folder, config.place, "front_end", config.is_successor)

    def stop() -> None:
        server.should_exit = True

    on_ending_signals(stop)  # before and after those that the server hears
    try:
        server = Server(uvicorn_config(create_front_end(config, settings, metrics, stop), settings))
    except SetupError as error:
        report_failure(error.detail)
        return EXIT_SETUP
    freeze_heap()
    server.run(inherited(config.sockets))
    return 0


if __name__ == "__main__":
    sys.exit(main())

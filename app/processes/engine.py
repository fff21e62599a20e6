"""The engine process: the application of one process, without a port, asked by front ends. Started by the supervisor."""

from __future__ import annotations

import asyncio
import signal
import sys

from uvicorn.loops.auto import auto_loop_factory

from app.api.context import AppState
from app.core.errors import HooperError
from app.core.exit_codes import EXIT_SETUP
from app.ipc.server import EngineServer
from app.main import create_app
from app.observability.logging import set_up_logging
from app.observability.metrics import SharedMetrics
from app.processes.child import ChildConfig, heartbeat, on_stop_request, receive_config, report_failure
from app.processes.http import ending_signals, exit_now


async def answer(config: ChildConfig) -> HooperError | None:
    """Load, and answer front ends until the supervisor says that it is enough.

    Returns:
        Why a model could not be loaded.
    """
    settings = config.read_settings().model_copy(update={"traces_endpoint": ""})  # front ends trace
    failures: list[HooperError] = []
    over = asyncio.Event()

    def give_up(error: HooperError) -> None:
        failures.append(error)
        over.set()

    metrics = SharedMetrics(config.metrics_folder, config.place, "engine", config.is_successor)
    app = create_app(settings, give_up, metrics=metrics)
    beating = asyncio.create_task(heartbeat(), name="heartbeat")
    on_stop_request(over.set)
    async with app.router.lifespan_context(app):
        live: AppState = app.state.hooper
        side = EngineServer(live.registry, live.load, settings.front_ends, live.promote)
        await side.listen(config.engine_socket)
        await over.wait()
        await side.aclose()
    beating.cancel()
    return failures[0] if failures else None


def main() -> int:
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group: front ends still need this process
    config = receive_config()
    settings = config.read_settings()
    set_up_logging(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        failure = runner.run(answer(config))
    if failure is not None:
        report_failure(failure.detail)
    return exit_now(EXIT_SETUP if failure is not None else 0)


if __name__ == "__main__":
    sys.exit(main())

"""Runs the application under uvicorn until a signal, or until it cannot start."""

from __future__ import annotations

import os
import signal
import sys

import uvicorn

from app.api.connection import limited
from app.core.errors import HooperError, SetupError
from app.main import create_app
from app.observability.logging import set_up_logging
from app.runtime.thread import is_any_left_behind
from app.settings import Settings, check_exposure

EXIT_SETUP = 2


def serve(settings: Settings) -> int:
    """Listen, load, answer.

    Returns:
        0 after a signal; 2 if a model, the device or the port could not be had, with one sentence on standard error.

    Raises:
        InvalidSettings: others would reach it without a key, and that was not said.
    """
    check_exposure(settings)
    set_up_logging(settings.log_level)
    failures: list[HooperError] = []

    def give_up(error: HooperError) -> None:
        failures.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        create_app(settings, give_up),
        host=settings.host,
        port=settings.port,
        http=limited(settings.receive_s, settings.max_connections),
        ws="none",  # there is no route for it
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_s) + 1,
    )
    server = uvicorn.Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)  # uvicorn raises a signal again once it has obeyed it: it must not kill us then
    try:
        server.run()
    except SystemExit:  # uvicorn's way to say that it cannot listen; it has logged why
        failures.append(SetupError(f"HOOPER_HOST={settings.host} HOOPER_PORT={settings.port} cannot be listened on"))
    if failures:
        print(f"hooper: {failures[0].detail}", file=sys.stderr)
    code = EXIT_SETUP if failures else 0
    if is_any_left_behind():  # everything else is closed by now
        sys.stderr.flush()
        os._exit(code)
    return code

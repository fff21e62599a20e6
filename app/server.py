"""Runs the application under uvicorn until a signal, or until it cannot start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import uvicorn

from app.configuration import check_tls
from app.core.errors import HooperError, SetupError
from app.core.exit_codes import EXIT_SETUP
from app.main import create_app, tasks_of
from app.observability.logging import harmless, set_up_logging
from app.processes.http import exit_now, freeze_heap, on_ending_signals, uvicorn_config
from app.settings import Settings, check_exposure

MakeApp = Callable[[Settings, Callable[[HooperError], None]], Any]
"""From the settings, and what is called when no model can be loaded, to the application, FastAPI's."""


def serve(settings: Settings, make_app: MakeApp = create_app) -> int:
    """Listen, load, answer.

    Returns:
        0 after a signal; 2 if a model, the device or the port is not available, 3 if processes died again and again, with one
        sentence on standard error.

    Raises:
        InvalidSettings: others would reach it without a key, which no setting allows, or a file for TLS cannot be used.
        SetupError: an installed task cannot be taken.
    """
    check_exposure(settings)
    check_tls(settings)
    set_up_logging(settings.log_level, settings.log_format)
    tasks_of(settings)
    return _serve_from_several(settings) if settings.front_ends > 1 else _serve_from_one(settings, make_app)


def _serve_from_one(settings: Settings, make_app: MakeApp) -> int:
    failures: list[HooperError] = []

    def give_up(error: HooperError) -> None:
        failures.append(error)
        server.should_exit = True

    server = uvicorn.Server(uvicorn_config(make_app(settings, give_up), settings))

    def stop() -> None:
        server.should_exit = True

    freeze_heap()
    on_ending_signals(stop)  # uvicorn raises a signal again once it has obeyed it: it must not kill us then
    try:
        server.run()
    except SystemExit:  # uvicorn's way to say that it cannot listen; it has logged why
        failures.append(
            SetupError(f"HOOPER_HOST={settings.host} HOOPER_PORT={settings.port} cannot be opened; is the port already in use?")
        )
    if failures:
        print(f"hooper: {harmless(failures[0].detail)}", file=sys.stderr)
    return exit_now(EXIT_SETUP if failures else 0)


def _serve_from_several(settings: Settings) -> int:
    from app.processes.supervisor import ExitStatus, supervise

    try:
        ending = supervise(settings)
    except SetupError as error:
        ending = ExitStatus(EXIT_SETUP, error.detail)
    if ending.sentence:
        print(f"hooper: {harmless(ending.sentence)}", file=sys.stderr)
    return ending.code

"""How an application is put under uvicorn, in whichever process."""

from __future__ import annotations

import gc
from typing import Any

import uvicorn

from app.api.connection import limited
from app.api.shedding import Doorman
from app.settings import Settings


def set_heap_aside() -> None:
    """Take what stands in memory before the service begins out of the garbage collector's rounds.

    Modules and routes live as long as the process. Looking through them takes the collector a quarter of a second, in which
    nobody is answered, and a body of many values makes it do so.
    """
    gc.collect()
    gc.freeze()


def configured(app: Any, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=limited(settings.receive_s, settings.max_connections, Doorman(app, settings.root_path), app.state.body_budget),
        ws="none",  # there is no route for it
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_s) + 1,
    )

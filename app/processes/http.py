"""How an application is served, in whichever process: its sockets, its signals, and uvicorn."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

import uvicorn

from app.api.connection import limited
from app.core.errors import SetupError
from app.runtime.thread import is_any_abandoned
from app.settings import Settings


def freeze_heap() -> None:
    """Take what stands in memory before the service begins out of the garbage collector's rounds.

    Modules and routes live as long as the process. Looking through them takes the collector a quarter of a second, in which
    nobody is answered, and a body of many values makes it do so.
    """
    gc.collect()
    gc.freeze()


TLS_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of TLS 1.3 are fixed, and nothing older is spoken. uvicorn's default takes some that are broken."""


def uvicorn_config(app: Any, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=limited(settings.receive_s, settings.max_connections, app.state.load_shedder, app.state.body_budget),
        ws="none",  # there is no route for it
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_ciphers=TLS_CIPHERS,
        ssl_certfile=settings.ssl_certfile or None,
        ssl_keyfile=settings.ssl_keyfile or None,
        ssl_keyfile_password=settings.ssl_keyfile_password or None,
        timeout_graceful_shutdown=int(settings.drain_s) + 1,
    )


BACKLOG = 2048
Listening = socket.socket


def listen(host: str, port: int) -> list[Listening]:
    """One listening socket for each address of the host, as asyncio opens them.

    Raises:
        SetupError: one of them cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        try:
            infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            addresses = dict.fromkeys((family, address) for family, _, _, _, address in infos)
            opened = [stack.enter_context(_open(family, address)) for family, address in addresses]
        except OSError as error:
            raise SetupError(f"HOOPER_HOST={host} HOOPER_PORT={port} cannot be opened ({error.strerror or error})") from None
        stack.pop_all()
    return opened


def inherited(numbers: Iterable[int]) -> list[Listening]:
    """Sockets that another process opened, under the numbers that they were passed on with."""
    return [socket.socket(fileno=number) for number in numbers]


def _open(family: int, address: tuple[object, ...]) -> Listening:
    opened_socket = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        opened_socket.bind(address)
        opened_socket.listen(BACKLOG)
        opened_socket.setblocking(False)
    except OSError:
        opened_socket.close()
        raise
    return opened_socket


def exit_now(code: int) -> int:
    """The code for `sys.exit`; does not return where a thread is stuck in an engine, for which Python would wait for ever."""
    if is_any_abandoned():  # everything else is closed by now
        with contextlib.suppress(OSError):  # a terminal that was closed
            sys.stderr.flush()
        os._exit(code)
    return code


def ending_signals() -> list[signal.Signals]:
    """An interrupt, a request to terminate, and a terminal that closes.

    The last is left out where it is ignored already: `nohup` does that for a service that is to outlive its terminal.
    """
    signals = [signal.SIGINT, signal.SIGTERM]
    hang_up: signal.Signals | None = getattr(signal, "SIGHUP", None)  # not everywhere
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        signals.append(hang_up)
    return signals


def on_ending_signals(end: Callable[[], None]) -> None:
    """Call this at each of them, however often it comes."""
    for number in ending_signals():
        signal.signal(number, lambda *_: end())

"""The sockets that all front ends accept on: opened once, by the supervisor, and inherited."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

from app.core.errors import SetupError

BACKLOG = 2048
Listening = socket.socket


def listen(host: str, port: int) -> list[Listening]:
    """One listening socket for each address of the host, as asyncio opens them.

    Raises:
        SetupError: one of them cannot be had.
    """
    with contextlib.ExitStack() as stack:
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            addresses = dict.fromkeys((family, address) for family, _, _, _, address in found)
            opened = [stack.enter_context(_open(family, address)) for family, address in addresses]
        except OSError as error:
            raise SetupError(
                f"HOOPER_HOST={host} HOOPER_PORT={port} cannot be listened on ({error.strerror or error})"
            ) from None
        stack.pop_all()
    return opened


def inherited(numbers: Iterable[int]) -> list[Listening]:
    """Sockets that another process opened, under the numbers that they were passed on with."""
    return [socket.socket(fileno=number) for number in numbers]


def _open(family: int, address: tuple[object, ...]) -> Listening:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made

"""Sockets that all front ends accept on, and the heap that is left out of garbage collection."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys

import pytest

from app.core.errors import SetupError
from app.processes.http import listen
from tests.support.live_service import free_port

SERVED = """
import gc
import uvicorn
from app.server import serve
from app.settings import Settings

def run(server):
    print(gc.get_freeze_count(), len(gc.get_objects()))

uvicorn.Server.run = run
serve(Settings())
"""


def test_what_stands_in_memory_before_the_service_begins_is_not_looked_through_again() -> None:
    ran = subprocess.run([sys.executable, "-c", SERVED], capture_output=True, text=True, check=True)
    num_set_aside, num_left = map(int, ran.stdout.split())
    assert num_set_aside > 100 * num_left


def test_a_connection_is_accepted_by_whoever_has_the_socket() -> None:
    port = free_port()
    [one] = listen("127.0.0.1", port)
    with one, socket.create_connection(("127.0.0.1", port)) as client:
        with contextlib.closing(socket.socket(fileno=socket.dup(one.fileno()))) as inherited:
            inherited.setblocking(True)
            accepted, _ = inherited.accept()
        with accepted:
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"


def test_localhost_is_every_address_that_it_stands_for() -> None:
    port = free_port()
    wanted = {entry[4][0] for entry in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
    with contextlib.ExitStack() as stack:
        try:
            opened = [stack.enter_context(entry) for entry in listen("localhost", port)]
        except SetupError:
            pytest.skip("this machine names addresses for localhost that it does not have")
        assert {entry.getsockname()[0] for entry in opened} == wanted


def test_a_port_that_is_taken_is_said_with_its_settings() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"HOOPER_HOST=127.0.0.1 HOOPER_PORT={port} cannot be opened"):
            listen("127.0.0.1", port)


def test_a_host_that_does_not_exist_is_said() -> None:
    with pytest.raises(SetupError, match=r"HOOPER_HOST=no\.such\.host\.invalid HOOPER_PORT=1 cannot be opened"):
        listen("no.such.host.invalid", 1)

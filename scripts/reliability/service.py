"""The service itself, over a real socket, in this process: the application of `app.main` with engines that are given."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from app.core.errors import SetupError
from app.main import create_app
from app.runtime.onnx_session import SessionFactory
from app.settings import Settings
from scripts.bench.service import free_port
from scripts.reliability.callers import OK

READY_S = 120.0
WAIT_S = 0.1
ADMIN_KEY = "admin"


@dataclass(frozen=True, slots=True)
class Running:
    """A service that runs."""

    port: int

    def status(self, path: str, method: str = "GET") -> int:
        return self.ask(path, method)[0]

    def sample(self, name: str) -> dict[str, float]:
        """A metric's values by their labels, as they stand in the exposition."""
        text = self.ask("/metrics", "GET")[1].decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith(name + "{"))
        return {labels.removeprefix(name): float(value) for labels, _, value in lines}

    def total(self, name: str) -> int:
        return int(sum(self.sample(name).values()))

    def ask(self, path: str, method: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        """Status and body."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"} | ({} if body is None else {"Content-Type": "application/json"})
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=READY_S) as response:  # noqa: S310 - our own address
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@contextmanager
def running(settings: dict[str, Any], session_factory: SessionFactory) -> Iterator[Running]:
    """The service until the block ends.

    Raises:
        SetupError: it does not get ready.
    """
    port = free_port()
    app = create_app(Settings(port=port, **settings), session_factory=session_factory)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, name="service", daemon=True)
    thread.start()
    service = Running(port)
    try:
        wait_until_ready(service, READY_S)
        yield service
    finally:
        server.should_exit = True
        thread.join(READY_S)


def wait_until_ready(service: Running, seconds: float) -> None:
    """
    Raises:
        SetupError: it was not in time.
    """
    pause = threading.Event()
    for _ in range(int(seconds / WAIT_S)):
        with contextlib.suppress(OSError):  # nobody listens yet
            if service.status("/health/ready") == OK:
                return
        pause.wait(WAIT_S)
    raise SetupError(f"the service was not ready after {seconds:.0f} s")

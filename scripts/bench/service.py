"""The service under load: one that runs already, or one started for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from app.core.errors import SetupError

START_S = 60.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 80)

    def get(self, path: str) -> Any:
        """The JSON behind a path.

        Raises:
            OSError: nobody answers, or not with 200.
        """
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """What stands behind a path, as text; raises as `get` does."""
        with urllib.request.urlopen(f"http://{self.host}:{self.port}{path}", timeout=5) as response:
            text: str = response.read().decode()
        return text

    def post(self, path: str, body: Any) -> Any:
        """The JSON that a path answers to a JSON body.

        Raises:
            OSError: nobody answers, or not with 200.
        """
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return json.load(response)


@contextmanager
def started(settings: Mapping[str, str]) -> Iterator[Address]:
    """`hooper serve` on a free port until the block ends; see `started_process`."""
    with started_process(settings) as (address, _):
        yield address


@contextmanager
def started_process(
    settings: Mapping[str, str],
    hooper: Sequence[str] = (sys.executable, "-m", "app.cli"),
    folder: Path | None = None,
    log: IO[str] | None = None,
) -> Iterator[tuple[Address, int]]:
    """The same, with the id of its process.

    Args:
        settings: environment variables, such as `HOOPER_MODELS`.
        hooper: the command; by default the code that runs this.
        folder: where it runs; by default here.
        log: where its log goes; by default to standard error.

    Raises:
        SetupError: it does not get ready.
    """
    address = Address("127.0.0.1", free_port())
    environment = {**os.environ, "HOOPER_LOG_LEVEL": "warning", **settings, "HOOPER_PORT": str(address.port)}
    with subprocess.Popen([*hooper, "serve"], env=environment, cwd=folder, stderr=log) as process:
        try:
            wait_until_ready(address, process)
            yield address, process.pid
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until_ready(
    address: Address, process: subprocess.Popen[bytes], seconds: float = START_S, path: str = "/health/ready"
) -> None:
    """
    Args:
        address: where it will listen.
        process: what will.
        seconds: how long it may take.
        path: what it answers with 200 when it is ready.

    Raises:
        SetupError: the process ended, or was not ready in time.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SetupError(f"the service ended with exit code {process.returncode} before it was ready")
        try:
            address.text(path)
        except OSError:
            time.sleep(POLL_S)
        else:
            return
    raise SetupError(f"the service was not ready after {seconds:.0f} seconds")

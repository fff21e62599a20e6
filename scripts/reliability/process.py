"""The service as a process of its own, which can be told to end, and whose log is kept."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench.service import Address, free_port, wait_until_ready
from scripts.reliability.callers import OK
from scripts.reliability.service import ADMIN_KEY, Running

END_S = 120.0
POLL_S = 0.005
SHUTTING_DOWN = "Shutting down"


@dataclass(frozen=True, slots=True)
class Process:
    """A service that runs."""

    running: Running
    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> dict[str, Any]:
        """Send SIGTERM and wait: the exit code, and the seconds until readiness was red and until it had ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        pause = threading.Event()
        while self._is_ready():
            pause.wait(POLL_S)
        red_s = time.monotonic() - began
        code = self.process.wait(END_S)
        return {"exit_code": code, "ready_red_s": round(red_s, 3), "ended_s": round(time.monotonic() - began, 3)}

    def _is_ready(self) -> bool:
        try:
            return self.running.status("/health/ready") == OK
        except OSError:  # it no longer listens
            return False

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]


@contextmanager
def process(settings: Mapping[str, str], log: Path) -> Iterator[Process]:
    """`hooper serve` on a free port, until the block ends.

    Raises:
        SetupError: it does not get ready.
    """
    address = Address("127.0.0.1", free_port())
    own = {
        "HOOPER_LOG_LEVEL": "info",
        "HOOPER_PORT": str(address.port),
        "HOOPER_ADMIN_KEY_HASHES": hashlib.sha256(ADMIN_KEY.encode()).hexdigest(),
    }
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve"], env={**os.environ, **own, **settings}, stderr=stream
        ) as started,
    ):
        try:
            wait_until_ready(address, started)
            yield Process(Running(address.port), started, log)
        finally:
            started.terminate()


def read_by(lines: list[dict[str, Any]]) -> tuple[dict[str, int], set[str]]:
    """From a log: the requests that the service read, with their statuses, and those of them that ended after the signal."""
    end = next((place for place, one in enumerate(lines) if one["message"] == SHUTTING_DOWN), len(lines))
    asked = [(place, one) for place, one in enumerate(lines) if one["logger"] == "hooper.access" and "request_id" in one]
    return {one["request_id"]: one["status"] for _, one in asked}, {one["request_id"] for place, one in asked if place > end}
